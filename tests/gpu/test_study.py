"""A study of every kind of arm on known features: by several workers on one GPU, and its SAEs on a CPU."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from harness.commands.export import FORMATS
from harness.evaluation.quality import measure
from harness.training.data import Data
from harness.training.trained_sae import load_sae
from tests.gpu.commands import at_once, cells, device_name, figures, harness, results, tables, weights, workspace

SOURCE = """
kind: synthetic
width: 16
features: 32
tokens: 16_000
held_out_tokens: 2_048
active: 3
"""
STUDY = """
question: What does each part of a recipe do on this machine?
source: sources/known.yaml
recipe: {latents: 64, k: 4, tokens: 8_000, batch: 128, dead_window: 1_024, lr: 4.0e-3}
axes:
  system:
    settings:
      shallow: {}
      dense 2-2: {layers: dense 2-2}
      sparse 3: {layers: sparse 3}
      batch top-k: {sparsifier: batchtopk}
      JumpReLU: {sparsifier: jumprelu, sparsity: 0.1}
      Muon: {optimizer: muon}
      aux-k: {aux_k: 8, dead_window: 512}
      penalty: {penalty: 0.1}
      remedies: {layers: sparse 2, k_start: 16, resample: 2_048, prefixes: 0.25-0.5}
  precision: [float32, bfloat16]
seeds: [0]
keep: all
"""
CELLS = 18


class Ran(NamedTuple):
    root: Path
    other: Path  # the same study, by fewer workers in larger cohorts
    said: str  # by `harness plan` in the end
    exported: Path  # a folder of each format, with the SAE of a shallow cell


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, databases: Path) -> Ran:
    """The study, run twice at the same time on one GPU."""
    roots = [
        workspace(tmp_path_factory.mktemp("study") / name, databases, source_known=SOURCE, every=STUDY)
        for name in ("four_workers", "two_workers")
    ]
    ways = ("--workers 4 --cohort 5", "--workers 2")
    at_once(
        *(partial(harness, root, f"run studies/every.yaml {way}") for root, way in zip(roots, ways, strict=True))
    )
    exported = roots[0] / "exported"
    said, *_ = at_once(
        partial(harness, roots[0], "plan studies/every.yaml"),
        partial(harness, roots[0], "report studies/every.yaml"),
        *(
            partial(harness, roots[0], f"export {shallow(roots[0])['sae']} {exported / form} --format {form}")
            for form in FORMATS
        ),
    )
    return Ran(*roots, said, exported)


def shallow(root: Path) -> dict[str, Any]:
    """The row of a cell that every package can load."""
    return next(row for row in cells(root, "every") if row["arm"] == {"system": "shallow", "precision": "float32"})


def test_every_cell_is_complete_and_says_where_it_was_trained(ran: Ran) -> None:
    found = figures(ran.root, "every")
    assert len(found) == CELLS
    assert all(0.0 < one["fvu"] < 1.0 and 0.0 < one["mcc"] <= 1.0 for one in found.values()), found
    assert {(one["device"], one["kernels"]) for one in results(ran.root)} == {(device_name(), "compiled")}
    study = json.loads((ran.root / "results/every/study.json").read_text())
    assert study["environment"]["device"] == device_name()
    assert "Traceback" not in (ran.root / "runs/every.log").read_text()


def test_the_report_and_the_plan_know_the_device(ran: Ran) -> None:
    assert f"{CELLS} done, 0 to run" in ran.said
    assert device_name().lower() in ran.said.lower()
    assert device_name().lower() in (ran.root / "results/every/report.md").read_text().lower()
    assert (ran.root / "results/every/report.html").stat().st_size > 10_000


def test_tables_and_weights_do_not_depend_on_workers_and_cohorts(ran: Ran) -> None:
    for one, other in zip(cells(ran.root, "every"), cells(ran.other, "every"), strict=True):
        assert one == other, one["arm"]
    assert tables(ran.root, "every") == tables(ran.other, "every")
    assert len(weights(ran.root)) == CELLS
    assert weights(ran.root) == weights(ran.other)


def test_on_a_cpu_a_loaded_sae_has_the_figures_of_the_tables(ran: Ran) -> None:
    data = Data(ran.root / "data/known/activations", torch.device("cpu"))
    for row in cells(ran.root, "every"):
        found = measure(load_sae(ran.root / row["sae"]), data.held_out)
        for name in ("fvu", "l0", "mse"):
            assert found[name] == pytest.approx(row["heldout"][name], rel=2e-3), (name, row["arm"])


def test_measuring_again_gives_the_same_figures(ran: Ran) -> None:
    before = tables(ran.root, "every")
    for file in ran.root.glob("runs/cells/*/measurements/*.json"):
        file.unlink()
    harness(ran.root, "evaluate studies/every.yaml --workers 2")
    assert tables(ran.root, "every") == before


def test_an_exported_sae_is_the_one_that_was_trained(ran: Ran) -> None:
    x = 3 * torch.randn(256, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load_sae(ran.root / shallow(ran.root)["sae"])(x)
        for form in FORMATS:
            assert torch.allclose(load_sae(ran.exported / form)(x), ours, rtol=1e-4, atol=1e-4), form
