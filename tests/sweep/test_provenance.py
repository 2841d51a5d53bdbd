"""provenance.json: what depends on the day and the machine, apart from the results that do not."""

import json
import re
import shutil
from datetime import UTC, datetime
from importlib.metadata import version

from harness.cli import main

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
