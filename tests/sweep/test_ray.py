"""Sweeps on a real Ray cluster of two nodes on this machine: `make ray`."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once
from tests.sweep.test_sweep import ARGUMENTS, FILES, alive, points, records, wait_until

pytestmark = pytest.mark.ray
AXES = """
axes:
  layers: [none, sparse 2]
  lr: [1e-3, 2e-3, 4e-3]
seeds: [0, 1, 2, 3]
"""


def make_24_cells(root: Path, databases: Path) -> None:
    study = make_workspace(root)
    text = study.read_text()
    study.write_text(text[: text.index("axes:")] + AXES.lstrip())
    shutil.copytree(databases, root / "runs")


@pytest.fixture
def cluster():
    """A head that runs no cells, and two nodes with two slots each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=2)
        yield made
    finally:
        made.shutdown()


def raylet(node) -> subprocess.Popen:
    return node.all_processes["raylet"][0].process


def below(pid: int) -> list[int]:
    """All processes that descend from this one."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [process for child in map(int, found) for process in (child, *below(child))]


def training(pids: list[int]) -> list[int]:
    """Those that are the harness's workers."""
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in pids}
    return [pid for pid, path in commands.items() if path.exists() and b"workers.worker" in path.read_bytes()]


def holders(root: Path) -> set[int]:
    """Processes that hold the lock of a cell."""
    inodes = {str(path.stat().st_ino) for path in root.glob("runs/cells/*/lock")}
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {int(fields[4]) for fields in locks if fields[5].split(":")[2] in inodes}


def test_a_sweep_that_loses_a_node_ends_like_an_undisturbed_one(
    cluster, postgresql, databases, tmp_path, monkeypatch
):
    """Its ledger is on PostgreSQL, its curves are in a file."""
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, root):
        make_24_cells(folder, databases)
    monkeypatch.chdir(undisturbed)
    main(["run", "studies/small.yaml", "--workers", "2"])

    monkeypatch.chdir(root)
    monkeypatch.setenv("HARNESS_STORAGE", postgresql.url())
    engine = ["--engine", "ray", "--address", cluster.address, "--workers", "4"]
    run = [sys.executable, "-m", "harness", *ARGUMENTS, *engine]
    sweep = subprocess.Popen(run, stderr=subprocess.PIPE)
    *_, node = cluster.worker_nodes
    wait_until(lambda: len(holders(root) & set(training(below(raylet(node).pid)))) == 2)
    workers = training(below(raylet(node).pid))
    raylet(node).kill()
    raylet(node).wait()  # as init would: actors look for the process, and a zombie is one
    wait_until(lambda: not alive(workers))
    _, errors = sweep.communicate(timeout=120)
    assert (sweep.returncode, errors) == (0, b"")
    for name in FILES:
        expected = (undisturbed / "results" / "small" / name).read_bytes()
        assert (root / "results" / "small" / name).read_bytes() == expected, name
    cells = [row["cell"] for row in records(root, "cells.jsonl")]
    assert len(cells) == 24
    assert_each_cell_once(root, cells, points(root))
    assert postgresql.execute("SELECT state, count(*) FROM trials GROUP BY state") == [("COMPLETE", 24)]


def test_a_wrong_address_is_one_line(small_study, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address in ("127.0.0.1:1", "nonsense", f"127.0.0.1:{silent.getsockname()[1]}"):
            with pytest.raises(SystemExit) as stop:
                main(["run", str(small_study), "--engine", "ray", "--address", address])
            assert stop.value.code == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"no cluster at {address}" in line
    assert not list(Path("runs").glob("*.db"))
