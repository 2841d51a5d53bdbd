"""provenance.json: what depends on the day and the machine, apart from the results that do not."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version

import harness
from harness.cli import main
from harness.sweep.provenance import write_provenance

ARGUMENTS = ["run", "studies/small.yaml", "--workers", "2"]


def test_it_says_when_and_where_the_cells_were_trained_and_changes_with_them_alone(
    undisturbed, tmp_path, monkeypatch
):
    root = tmp_path / "copy"
    shutil.copytree(undisturbed, root)
    results = root / "results/small"
    made = json.loads((results / "provenance.json").read_text())
    ends = [path.stat().st_mtime for path in undisturbed.glob("runs/cells/*/result.json")]
    assert made["date"] == datetime.fromtimestamp(max(ends), UTC).date().isoformat()
    assert re.fullmatch(r"[0-9a-f]{12}( with changes)?", made["commit"])
    assert made["versions"]["torch"] == version("torch")
    assert re.fullmatch(r".+, \d+ cores", made["processor"])
    assert made["cells shared with other studies"] == {}

    shutil.copytree(results, root / "results/other")
    (results / "provenance.json").write_text('{"date": "2020-01-01"}')
    monkeypatch.chdir(root)
    main(ARGUMENTS)  # trains nothing: the cells are as they were
    assert json.loads((results / "provenance.json").read_text()) == {"date": "2020-01-01"}
    (results / "provenance.json").unlink()
    main(ARGUMENTS)
    assert json.loads((results / "provenance.json").read_text())["cells shared with other studies"] == {"other": 8}


def test_an_installed_copy_does_not_name_the_commit_of_the_project_around_it(tmp_path, monkeypatch):
    package = tmp_path / ".venv/lib/harness"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / ".gitignore").write_text(".venv\n")
    author = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message", "theirs"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(harness, "__file__", str(package / "__init__.py"))
    write_provenance(tmp_path, [], [])
    assert "commit" not in json.loads((tmp_path / "provenance.json").read_text())
