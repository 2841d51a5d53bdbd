"""`harness features`: the page has what the tables have, and nothing in a text becomes part of it."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from harness.analysis.latent_page import page
from harness.analysis.latent_page.examples import KINDS, OTHERS, STRONGEST
from harness.analysis.report import make_report
from harness.analysis.tables import make_tables
from harness.cli import main
from harness.workspace import Workspace
from tests.analysis.synthetic_latents import add_latents
from tests.analysis.synthetic_results import write_grid
from tests.interpretability.latent_tables import VOCABULARY, write_cell, write_tokens
from tests.test_cli import fails

STUDY = "studies/small.yaml"
LATENTS = 150  # more than one block
NULLS = {"raw_neurons": {"label": "raw neurons", "figures": {}}, "elsewhere": {"label": "other", "figures": {}}}
ABOUT = {"name": "small", "file": STUDY, "interpretability": {"latents": LATENTS}, "nulls": NULLS}


@pytest.fixture
def tables(small_study: Path) -> dict[str, pl.DataFrame]:
    """The study `small` with results and with tables of latents: of each cell its latents."""
    results = write_grid(Path("results/small"), {"layers": ["none", "sparse 2"]}, 2, lambda levels, seed: 0.1)
    record = json.loads((results / "study.json").read_text())
    (results / "study.json").write_text(json.dumps({**record, **ABOUT}))
    folder = Workspace(Path()).latents("small")
    write_tokens(folder)
    cells = [json.loads(line)["cell"] for line in (results / "cells.jsonl").read_text().splitlines()]
    names = [*cells, "null-raw_neurons"]
    return {name: write_cell(folder / name, LATENTS, layers=2, seed=place) for place, name in enumerate(names)}


def unpacked(html: str, name: str) -> Any:
    found = re.search(rf'<script type="text/plain" id="{name}">([\w+/=]*)</script>', html)
    assert found, name
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


def test_the_list_has_every_latent_of_the_tables(tables, capsys):
    main(["features", STUDY])
    assert f"{5 * LATENTS} latents of 4 SAEs and 1 null" in capsys.readouterr().out
    assert "2 arms, 4 SAEs, 1 null, " in Path("results/small/features.html").read_text()
    index = unpacked(Path("results/small/features.html").read_text(), "index")
    assert [(cell["arm"], cell["seed"]) for cell in index["cells"]] == [
        ("none", 0),
        ("none", 1),
        ("sparse 2", 0),
        ("sparse 2", 1),
        ("raw neurons", None),
    ]
    columns, first = index["columns"], 0
    for cell in index["cells"]:
        here, table = slice(first, first + LATENTS), tables[cell["id"]]
        first += LATENTS
        for name in ("latent", "layer", "neighbour"):
            assert columns[name][here] == table[name].to_list()
        for name in ("dead", "dense", "unscored", "token_only"):
            assert [bool(value) for value in columns[name][here]] == table[name].to_list()
        for name in ("firing_rate", "detection", "detection_hard", "intruder"):
            wanted = [None if value is None else pytest.approx(value, rel=1e-3) for value in table[name]]
            assert columns[name][here] == wanted
        assert columns["explanation"][here] == [text or "" for text in table["explanation"]]


@pytest.fixture
def one_cell(tables) -> tuple[str, list[dict[str, Any]], list[str]]:
    """A page of one cell: its id, what the page has of each latent, and the texts of its tokens."""
    main(["features", STUDY, "none", "--seed", "1"])
    html = Path("results/small/features-none-seed-1.html").read_text()
    (cell,) = unpacked(html, "index")["cells"]
    return cell["id"], [*unpacked(html, "block-0"), *unpacked(html, "block-1")], unpacked(html, "words")


def test_windows_are_those_of_the_tables(one_cell):
    cell, shown, words = one_cell
    contexts = pl.read_parquet(f"runs/small.latents/{cell}/contexts.parquet").to_dicts()
    whole = {(row["latent"], row["context"], row["start"], row["kind"]): row for row in contexts}
    for latent, found in enumerate(shown):
        for kind, quantile, context, start, peak, tokens, pairs in found["windows"]:
            row = whole[latent, context, start, KINDS[kind]]
            assert [words[token] for token in tokens] == [VOCABULARY[token] for token in row["tokens"]]
            values = dict(zip(pairs[::2], pairs[1::2], strict=True))
            wanted = {place: value for place, value in enumerate(row["activations"]) if value > 0}
            assert values == {place: pytest.approx(value, rel=6e-3) for place, value in wanted.items()}
            assert (peak, quantile) == ((-1, -1) if kind else (row["peak"], row["quantile"]))


def test_each_latent_has_its_strongest_windows_and_some_of_all_kinds(tables, one_cell):
    cell, shown, _ = one_cell
    contexts = pl.read_parquet(f"runs/small.latents/{cell}/contexts.parquet").filter(draw=0, quantile=4)
    for latent, dead, found in zip(*tables[cell].select("latent", "dead"), shown, strict=True):
        windows = found["windows"]
        if dead:
            assert windows == []
            continue
        strengths = contexts.filter(latent=latent)["activations"].list.max().sort(descending=True)
        first = [max(pairs[1::2]) for *_, pairs in windows[:STRONGEST]]
        assert first == [pytest.approx(value, rel=6e-3) for value in strengths[:STRONGEST]]
        assert [quantile for _, quantile, *_ in windows] == [4] * STRONGEST + [3, 3, 2, 2, 1, 1, 0, 0] + [-1] * 8
        assert [kind for kind, *_ in windows] == [0] * (STRONGEST + 4 * OTHERS) + [1, 1, 2, 2, 3, 3, 4, 4]
        assert len({(kind, *where) for kind, _, *where, _, _, _ in windows}) == len(windows)


def test_logits_and_histograms_are_those_of_the_tables(tables, one_cell):
    cell, shown, words = one_cell
    known = dict(enumerate(VOCABULARY))
    for row, found in zip(tables[cell].to_dicts(), shown, strict=True):
        assert found["histogram"] == row["histogram"]
        for side in ("logits_up", "logits_down"):
            wanted = [known.get(token, f"‹token {token}›") for token in row[side]]
            assert [words[token] for token in found[side]] == wanted


def test_no_text_ends_the_script_that_holds_it(tables):
    main(["features", STUDY])
    html = Path("results/small/features.html").read_text()
    assert html.count("</script>") == html.count("<script")
    assert "onerror" not in html


def test_the_same_tables_make_the_same_bytes(tables):
    main(["features", STUDY, "--out", "one.html"])
    main(["features", STUDY, "--out", "two.html"])
    assert Path("one.html").read_bytes() == Path("two.html").read_bytes()
    assert "report.html" not in Path("one.html").read_text()  # it is not beside this one


def test_saes_that_are_not_interpreted_yet_are_counted(tables, capsys):
    first, *_ = tables
    folder = Path("runs/small.latents")
    (folder / "cells.json").write_text(json.dumps({"cells": {cell: {} for cell in list(tables)[:4]}}))
    main(["features", STUDY])
    assert "not interpreted" not in capsys.readouterr().out
    assert "not interpreted" not in Path("results/small/features.html").read_text()
    (folder / first / "figures.json").unlink()  # as a pass that is killed leaves it
    main(["features", STUDY])
    said = capsys.readouterr().out
    assert f"{4 * LATENTS} latents of 3 SAEs and 1 null" in said
    assert "not interpreted yet: 1" in said
    assert "1 SAE of the study is not interpreted yet" in Path("results/small/features.html").read_text()


def test_what_is_not_there_is_one_line(tables, capsys, monkeypatch):
    expected = "arm: expected one of 'none', 'sparse 2', 'raw neurons', got 'dense 9'"
    assert fails(capsys, "features", STUDY, "dense 9") == f"harness: {expected}"
    assert "seed: expected one of 0, 1, got 7" in fails(capsys, "features", STUDY, "none", "--seed", "7")
    monkeypatch.setattr(page, "MOST", 100)
    assert "expected at most 100 latents on a page, got 750; name an arm" in fails(capsys, "features", STUDY)
    Path("runs/small.latents/tokens.parquet").unlink()
    assert "expected tokens.parquet" in fails(capsys, "features", STUDY)
    for cell in tables:
        Path(f"runs/small.latents/{cell}/figures.json").unlink()
    assert "expected tables of latents" in fails(capsys, "features", STUDY)
    assert not list(Path("results/small").glob("features*"))


def test_the_report_links_to_the_page_where_the_study_asks_for_it(tmp_path):
    for asks in (True, False):
        results = write_grid(
            tmp_path / f"asks_{asks}", {"layers": ["none", "sparse 2"]}, 2, lambda levels, seed: 0.1
        )
        if asks:
            add_latents(results, 10)
        make_tables(results)
        (results / "figures").mkdir()
        (results / "figures" / "arms.svg").write_text("<svg/>")
        make_report(results)
        html, text = ((results / name).read_text() for name in ("report.html", "report.md"))
        assert ('<a href="features.html">Latents, one by one</a>' in html) == asks
        assert ("[Latents, one by one](features.html)" in text) == asks
