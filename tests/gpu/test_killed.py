"""A worker, then the whole sweep, is killed in the middle of a streamed run: the tables are those of another."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.activations.pretrained_models import save_model, save_text
from tests.gpu.commands import ON, at_once, figures, harness, start, tables, weights, workspace
from tests.sweep.test_sweep import alive, wait_until, workers_of

SOURCE = """
kind: pretrained
model: {name: model}
text: {files: text.jsonl, held_out: {share: 0.2}}
activations:
  {hook: transformer.h.1, context: 16, tokens: 20_000, held_out_tokens: 1_000, window: 3_000, feed: stream}
"""
STUDY = """
question: Does one more layer help?
source: sources/text.yaml
recipe: {latents: 64, k: 4, tokens: 400_000, batch: 128, dead_window: 512, lr: 4.0e-3}
axes:
  system:
    settings:
      shallow: {}
      two layers: {layers: sparse 2, precision: bfloat16}
      batch top-k: {sparsifier: batchtopk, resample: 20_000}
      Muon: {optimizer: muon, k_start: 16}
seeds: [0]
"""
RUN = "run studies/streamed.yaml --workers 1 --checkpoint-seconds 0.1"


def made(root: Path, databases: Path) -> Path:
    workspace(root, databases, source_text=SOURCE, streamed=STUDY)
    save_model("gpt2", root / "model")
    save_text(root / "text.jsonl", documents=3_000)
    return root


def test_a_streamed_sweep_that_was_killed_has_the_tables_of_another(tmp_path: Path, databases: Path) -> None:
    roots = [made(tmp_path / name, databases) for name in ("undisturbed", "disturbed")]
    at_once(partial(harness, roots[0], RUN), partial(kill_twice, roots[1]))
    assert len(figures(roots[0], "streamed")) == 4
    for one, other in zip(*(figures(root, "streamed").items() for root in roots), strict=True):
        assert one == other
    assert tables(roots[0], "streamed") == tables(roots[1], "streamed")
    assert weights(roots[0]) == weights(roots[1])
    assert "Traceback" not in (roots[1] / "runs/streamed.log").read_text()


def kill_twice(root: Path) -> None:
    """A worker once its cells have checkpoints, and the sweep once they have later ones."""
    sweep = start(root, f"{RUN} --device {ON}")
    workers: list[int] = []

    def checkpoints() -> int:
        return max((int(file.stem) for file in root.glob("runs/cells/*/checkpoints/*.safetensors")), default=0)

    def until(condition: Callable[[], bool]) -> None:
        wait_until(lambda: condition() or sweep.poll() is not None, 200)
        assert sweep.poll() is None, sweep.communicate()[0]

    try:
        until(lambda: checkpoints() > 100)
        for worker in workers_of(sweep):
            os.kill(worker, signal.SIGKILL)
        reached = checkpoints()
        until(lambda: checkpoints() > reached + 100)
        workers = workers_of(sweep)
    finally:
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
    wait_until(lambda: not alive(workers))
    time.sleep(0.1)  # the kernel takes the locks of processes that are gone
    harness(root, f"{RUN} --device {ON}")
