"""Tables in 80 columns, as pipes, files and many terminals have: no figure is cut off, no column is left out."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.analysis.summary import summary
from harness.analysis.tables import make_tables
from harness.cli import main
from tests.analysis.synthetic_results import cell_record, study_record, write

ROOT = Path(__file__).parent.parent
NAMES = ["none", "linear spread 0.1", "aux-k, weight 1/32"]


def test_plan(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    main(["plan", str(ROOT / "studies" / "depth.yaml")])
    said = capsys.readouterr().out
    headings = said.splitlines()[2].split()
    assert headings[:5] == ["layers", "penalty", "optimizer", "tuned", "cells"]
    assert headings[5:] == ["parameters", "FLOPs/token", "tokens", "memory", "time"]
    assert said.count(" 199,680 ") == 9  # tokens of every arm
    assert "…" not in said


def test_summary(capsys, tmp_path):
    cells = [
        cell_record({"remedy": name}, seed, 0.1 + place / 100 + seed / 1000, {"lr": 0.008})
        | {"cross_entropy_recovered": 0.97}
        for place, name in enumerate(NAMES)
        for seed in range(3)
    ]
    write(tmp_path / "s", study_record("s", {"remedy": NAMES, "lr": [0.008]}, [0, 1, 2], cells=9), cells, [])
    make_tables(tmp_path / "s")
    Console(width=60).print(summary(tmp_path / "s"), crop=False)
    said = capsys.readouterr().out
    heading = next(line for line in said.splitlines() if line.startswith("arm "))
    assert heading.split()[:3] == ["arm", "lr", "n"]
    assert "…" not in said
