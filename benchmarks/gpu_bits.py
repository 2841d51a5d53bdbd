"""Every kind of recipe twice on a GPU, resumed half-way, and on the CPU; and what of a step waits for the GPU."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.table import Value, table, why
from harness.sae.gpu import shortlist
from harness.study.recipe import Recipe
from harness.training.cell import Cell

WIDTH, LATENTS, K, BATCH, STEPS = 128, 2048, 16, 1024, 40
FEATURES, RATE = 512, 0.03
RECIPES: dict[str, dict[str, Any]] = {
    "top-k, float32": {},
    "top-k, tf32": {"precision": "tf32"},
    "top-k, bfloat16": {"precision": "bfloat16"},
    "batch top-k, matryoshka": {"sparsifier": "batchtopk", "prefixes": "0.125-0.5"},
    "ReLU": {"sparsifier": "relu", "sparsity": 1e-3},
    "JumpReLU": {"sparsifier": "jumprelu", "sparsity": 0.3},
    "JumpReLU, bfloat16": {"sparsifier": "jumprelu", "sparsity": 0.3, "precision": "bfloat16"},
    "dense 2-2, penalty": {"layers": "dense 2-2", "penalty": 0.1},
    "dense 2-2, penalty, bfloat16": {"layers": "dense 2-2", "penalty": 0.1, "precision": "bfloat16"},
    "dense encoder, linear penalty": {"layers": "dense_encoder 2", "penalty": 0.1, "penalty_on": "linear"},
    "three sparse layers": {"layers": "sparse 3"},
    "aux-k": {"aux_k": 64, "aux_weight": 1.0, "dead_window": 1024},
    "aux-k, three sparse layers, bfloat16": {
        "layers": "sparse 3",
        "aux_k": 64,
        "aux_weight": 1.0,
        "dead_window": 1024,
        "precision": "bfloat16",
    },
    "resampling": {"resample": 8192, "dead_window": 1024},
    "k decay": {"k_start": 64},
    "uncentred": {"inputs": "uncentred"},
    "unit norm": {"inputs": "unit_norm"},
    "AdamW, free norms": {"optimizer": "adamw", "decoder_norm": "free"},
    "Muon": {"optimizer": "muon"},
    "Muon, dense 2-2, bfloat16": {"optimizer": "muon", "layers": "dense 2-2", "precision": "bfloat16"},
    "SOAP": {"optimizer": "soap"},
    "schedule-free Adam": {"optimizer": "schedule_free_adam"},
    "Signum": {"optimizer": "signum"},
    "Lion": {"optimizer": "lion"},
    "SGD": {"optimizer": "sgd", "lr": 1.0},
}


def bits(device: torch.device, *, quick: bool) -> str:
    """Whether all of a cell's state has the same bits; variance unexplained on the GPU and on the CPU."""
    steps = 4 if quick else STEPS
    batches = torch.split(_activations(steps * BATCH), BATCH)
    rows: list[list[Value]] = []
    with patch.object(shortlist, "WORK", 0):  # else layers as small as these have none
        for name, changes in list(RECIPES.items())[: 2 if quick else None]:
            try:
                rows.append([name, *_compared(changes, batches, device)])
            except ImportError as missing:
                rows.append([name, f"not measured: no {missing.name}", None, None, None])
            except Exception as failure:  # the others are worth having all the same
                rows.append([name, why(failure), None, None, None])
    return table(["", "twice", "resumed", "FVU", "FVU on the CPU"], rows)


def _compared(changes: dict[str, Any], batches: tuple[Tensor, ...], device: torch.device) -> list[Value]:
    whole = _trained(_cell(changes, len(batches), device), batches)
    again = _trained(_cell(changes, len(batches), device), batches)
    half = _trained(_cell(changes, len(batches), device), batches[: len(batches) // 2])
    resumed = _cell(changes, len(batches), device)
    resumed.load_state({name: value.cpu().clone() for name, value in half.state().items()})
    _trained(resumed, batches)
    on_cpu = _trained(_cell(changes, len(batches), torch.device("cpu")), batches)
    said = ["the same" if _same(whole, other) else "DIFFERENT" for other in (again, resumed)]
    return [*said, f"{_unexplained(whole, batches):.5f}", f"{_unexplained(on_cpu, batches):.5f}"]


def _cell(changes: dict[str, Any], steps: int, device: torch.device) -> Cell:
    given = {"latents": LATENTS, "k": K, "batch": BATCH, "tokens": steps * BATCH, "lr": 2e-3, "dead_window": 4096}
    return Cell(Recipe(**{**given, **changes}), WIDTH, device)


def _trained(cell: Cell, batches: tuple[Tensor, ...]) -> Cell:
    """To the end, from wherever it is."""
    for batch in batches[cell.step_index :]:
        cell.step(batch.to(cell.centring.mean.device))
    return cell


def _same(one: Cell, other: Cell) -> bool:
    ours, theirs = one.state(), other.state()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@torch.no_grad()
def _unexplained(cell: Cell, batches: tuple[Tensor, ...]) -> float:
    x = torch.cat(batches[:8]).to(cell.centring.mean.device)
    with cell.evaluating():
        error = (x - cell.code(x).reconstruction).square().sum()
    return float(error / (x - x.mean(0)).square().sum())


def _activations(tokens: int) -> Tensor:
    """Sums of a few random directions, centred and scaled: [tokens, WIDTH]."""
    generator = torch.Generator().manual_seed(1)
    there = torch.rand(tokens, FEATURES, generator=generator) < RATE
    codes = there * torch.rand(tokens, FEATURES, generator=generator)
    x = codes @ normalize(torch.randn(FEATURES, WIDTH, generator=generator), dim=1)
    return (x - x.mean(0)) / x.std()


def waits(step: Any, x: Tensor) -> list[str]:
    """Lines at which a step on x [B, D], the second one of a cell, waits for the GPU."""
    step(x)
    if not x.is_cuda:
        return []
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    there = [warning for warning in caught if "synchroniz" in str(warning.message)]
    return sorted({f"{Path(warning.filename).name}:{warning.lineno}" for warning in there})
