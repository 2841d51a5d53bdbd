"""What is prepared is whole or not there: two processes at once, and disks that are full."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.activations.capture import capture_activations
from harness.activations.corpus import build_corpus
from harness.activations.folders import replacing
from harness.activations.language_model import train_language_model
from harness.activations.store import ActivationStore
from harness.activations.store_writer import StoreWriter
from harness.cli import main
from harness.errors import UserError
from harness.locks import exclusive
from harness.sources.docstrings import Docstrings
from harness.sources.prepare import prepare_step
from harness.sources.source import Made, Source, Step
from tests.sweep.test_sweep import wait_until

from .conftest import Folders, MakeSource

SYNTHETIC = (
    "{kind: synthetic, width: 8, features: 24, tokens: 100, held_out_tokens: 50, active: 2, dtype: float32}\n"
)
ROWS = np.arange(1, 401, dtype=np.float32).reshape(100, 4)  # no zero among them


def write(out: Path, half_way: Callable[[], object] = lambda: None) -> None:
    """Make a store of `ROWS`, as every maker of activations does."""
    with replacing(out, "manifest.json") as folder:
        writer = StoreWriter(folder, {"train": 100, "held_out": 1}, 4, "float32", 50)
        writer.put("train", np.arange(40), ROWS[:40])
        half_way()
        writer.put("train", np.arange(40, 100), ROWS[40:])
        writer.put("held_out", np.arange(1), ROWS[:1])
        writer.finish(hook="h", model="m", model_fingerprint="f")


def prepare(
    source: Source, data: Path, half_way: Callable[[], object] = lambda: None, name: str = "activations"
) -> list[str]:
    """Make a step of a source anew, as `harness prepare` does; returns what is said of it."""
    said: list[str] = []

    def make(folder: Path) -> Made:
        write(folder / name, half_way)
        return Made("made")

    prepare_step(source, Step(name, make), data, data / "results", said.append)
    return said


def test_of_two_that_make_the_same_one_waits_and_finds_it_done(source: Source, tmp_path: Path, capsys) -> None:
    outcome: list[str] = []

    def half_way() -> None:
        thread.start()
        wait_until(lambda: "waiting for" in said())

    said = collector(capsys)
    thread = threading.Thread(target=lambda: outcome.extend(prepare(source, tmp_path)))
    assert prepare(source, tmp_path, half_way) == ["made"]
    thread.join()
    here, folder = f"process {os.getpid()} on ", source.folder(tmp_path)
    assert re.match(re.escape(f"{folder}: waiting for {here}") + r".* since .*, which is preparing it\n$", said())
    assert outcome[0].startswith(f"{folder}/activations: made meanwhile by {here}")
    assert np.array_equal(ActivationStore.open(source.store(tmp_path)).read("train", 0, 100), ROWS)


def collector(capsys) -> Callable[[], str]:
    said: list[str] = []

    def all_of_it() -> str:
        said.append(capsys.readouterr().err)
        return "".join(said)

    return all_of_it


def test_one_that_waited_for_something_else_makes_its_own(
    source: Source, make_source: MakeSource, tmp_path: Path
) -> None:
    for other in (make_source(("h.0", "h.1")), source):  # another source; the same, but another step of it
        waiter = threading.Thread(target=prepare, args=(source, tmp_path))
        name = "corpus" if other is source else "activations"
        prepare(other, tmp_path, waiter.start, name)
        before = source.folder(tmp_path) / name
        inode = before.stat().st_ino
        waiter.join()
        assert before.stat().st_ino == inode or other is not source
        assert (source.store(tmp_path) / "manifest.json").exists()


def test_a_command_waits_for_another_and_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("known.yaml").write_text(SYNTHETIC)
    lock = Path("data/known/.lock")
    with exclusive(lock):
        lock.write_text("process 1\n")
        command = [sys.executable, "-m", "harness", "prepare", "known.yaml"]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "data/known: waiting for process 1, which is preparing it\n"
        assert list(lock.parent.iterdir()) == [lock]
    assert "100 + 50 tokens" in waiting.communicate(timeout=60)[0]
    assert ActivationStore.open(lock.parent / "activations").tokens("train") == 100


def test_rows_that_nobody_wrote_are_not_published(tmp_path: Path) -> None:
    def write_a_part() -> None:
        with replacing(tmp_path / "out", "manifest.json") as folder:
            writer = StoreWriter(folder, {"train": 10, "held_out": 1}, 4, "float32")
            writer.put("train", np.arange(4), ROWS[:4])
            writer.finish(hook="h")

    with pytest.raises(ValueError, match="train: expected 10 rows, 4 were put"):
        write_a_part()
    assert not list(tmp_path.glob("*out*"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes file systems of their own, of so many KiB."""
    places: list[Path] = []

    def make(kib: int) -> Path:
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("nobody may mount a file system here")
        places.append(place)
        return place

    yield make
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("kib", [16, 256])  # no room for the text, none for the activations
def test_a_full_disk_is_one_line(disk, tmp_path: Path, monkeypatch, capsys, kib: int) -> None:
    monkeypatch.chdir(tmp_path)
    Path("known.yaml").write_text(SYNTHETIC.replace("tokens: 100", "tokens: 20_000"))
    place = disk(kib)
    with pytest.raises(SystemExit) as stop:
        main(["--root", str(place), "prepare", "known.yaml"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        f"harness: {place}/data/known/activations: the disk is full; "
        "nothing was changed, free some room and try again\n"
    )
    assert [path.name for path in (place / "data/known").iterdir()] == [".lock"]


@pytest.mark.parametrize("kib", [8, 60, 200])
def test_a_disk_that_fills_at_any_step_is_one_line(source: Docstrings, folders: Folders, disk, kib: int) -> None:
    place = disk(kib)
    steps: dict[str, Callable[[Path], object]] = {
        "corpus": lambda out: build_corpus(source, out),
        "language_model": lambda out: train_language_model(source, folders.corpus, out),
        "activations": lambda out: capture_activations(source, folders.corpus, folders.language_model, out),
    }
    ends = {name: end_of(lambda make=make, name=name: make(place / name)) for name, make in steps.items()}
    assert {end for end in ends.values() if end} == {"the disk is full"}
    assert {path.name for path in place.iterdir()} == {name for name in ends if not ends[name]}


def end_of(make: Callable[[], object]) -> str | None:
    """What the user is told, without the path and the advice."""
    try:
        make()
    except UserError as error:
        return str(error).partition(": ")[2].partition(";")[0]
    return None
