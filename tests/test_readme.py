"""Every command in the README works as it stands there."""

import re
import shutil
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from harness.cli import main, parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
SMOKE = [command for command in COMMANDS if "smoke" in command]


def test_the_two_commands_that_do_everything_come_first():
    assert COMMANDS[:3] == ["git clone <this repository> harness && cd harness", "make repro", "make test"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command):
    assert subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("harness ")])
def test_harness_commands_are_understood(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    with suppress(SystemExit) if command.endswith("--help") else nullcontext():
        assert parser().parse_args(command.split()[1:]).run


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("dvc ")])
def test_dvc_commands_exist(command):
    help_of = [
        sys.executable,
        "-m",
        *command.split()[: 3 if command.split()[1] in ("metrics", "plots") else 2],
        "--help",
    ]
    assert subprocess.run(help_of, capture_output=True).returncode == 0


def test_no_command_is_left_out_of_these_tests():
    assert not [c for c in COMMANDS if not c.startswith(("git ", "make ", "harness ", "dvc ", ". .venv"))]


@pytest.mark.demo
def test_the_demo_runs_from_text_to_report(tmp_path, monkeypatch, capsys):
    """`studies/smoke.yaml` without DVC, from nothing: the commands that the README shows, in its order."""
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    assert [c.split()[1] for c in SMOKE] == ["plan", "run", "status", "report", "evaluate"]
    for command in SMOKE:
        main(command.split()[1:])
    shown = capsys.readouterr().out
    assert "18 cells: 18 complete" in shown
    assert "harness ui mlflow" in shown
    page = Path("results/smoke/report.html").read_text()
    assert "sparse 2" in page
    assert sorted(p.name for p in Path("results/smoke/figures").glob("*.png"))


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
