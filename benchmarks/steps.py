"""The time of a step: by size, against the floor and the peers; by variant, latents, depth and k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.shape import SIZES, Shape
from benchmarks.table import Value, table
from benchmarks.turns import Effort, Entry, Times, in_turns

FASTEST: dict[str, tuple[str, ...]] = {  # the better of each counts
    "sparsify": ("sparsify", "sparsify_high"),
    "SAELens": ("saelens", "saelens_dense"),
    "dictionary_learning": ("dictionary_learning",),
}
BASE = Shape(256, 4096, 32, 4096)


def against_peers(sizes: Sequence[Shape], effort: Effort, *, peers: bool, aux: bool) -> str:
    """Milliseconds a step: the encoder product alone, ours, the peers'; and ours as a multiple of each."""
    named = FASTEST if peers else {}
    heads = ["d, latents, k, batch", "product", "harness", *named, "of the product", *(f"of {n}" for n in named)]
    rows: list[list[Value]] = []
    for shape in (replace(size, aux=aux) for size in sizes):
        contenders = ["floor", "harness", *(c for several in named.values() for c in several)]
        times = in_turns({name: Entry(name, shape) for name in contenders}, effort, f"a step of {shape}")
        best = {name: min(times[contender].median for contender in several) for name, several in named.items()}
        floor, ours = times["floor"].median, times["harness"].median
        ratios = [ours / floor, *(ours / other for other in best.values())]
        rows.append([str(shape), floor, ours, *best.values(), *ratios])
    return table(heads, rows)


def memory(sizes: Sequence[Shape], effort: Effort, *, peers: bool) -> str:
    """MiB at the peak of some steps, weights and optimizer included, libraries left out."""
    named = FASTEST if peers else {}
    rows: list[list[Value]] = []
    for shape in sizes:
        contenders = ["harness", *(c for several in named.values() for c in several)]
        least = replace(effort, rounds=1)
        times = in_turns({name: Entry(name, shape) for name in contenders}, least, f"memory of {shape}")
        best = [min(times[c].bytes for c in several) for several in (("harness",), *named.values())]
        rows.append([str(shape), *(round(size / 2**20) for size in best)])
    return table(["d, latents, k, batch", "harness", *named], rows)


VARIANTS: dict[str, dict[str, object]] = {
    "top-k": {},
    "batch top-k": {"sparsifier": "batchtopk"},
    "ReLU, L1": {"sparsifier": "relu", "sparsity": 0.1},
    "JumpReLU": {"sparsifier": "jumprelu", "sparsity": 0.1},
    "top-k, spread penalty": {"penalty": 0.1},
    "three sparse layers": {"layers": "sparse 3"},
    "three sparse layers, all of it each": {"layers": "sparse 3 each"},
    "dense 2-2": {"layers": "dense 2-2"},
    "dense 2-4-4-2": {"layers": "dense 2-4-4-2"},
    "top-k, Muon": {"optimizer": "muon"},
    "top-k, Signum": {"optimizer": "signum"},
    "top-k, SOAP": {"optimizer": "soap"},
    "top-k, products in bfloat16": {"precision": "bfloat16"},
}


def by_variant(base: Shape, effort: Effort) -> str:
    """Ours, against the sum of all products that sparsity leaves necessary."""
    entries = {name: Entry("harness", replace(base, more=more)) for name, more in VARIANTS.items()}
    floors = {"plain": Entry("floor", base)}
    floors |= {n: Entry("dense_floor", e.shape) for n, e in entries.items() if n.startswith("dense")}
    times = in_turns({**entries, **{f"floor {name}": entry for name, entry in floors.items()}}, effort, "variants")
    rows: list[list[Value]] = [
        [name, _floor(name, times), times[name].median, times[name].median / _floor(name, times)]
        for name in entries
    ]
    return table(["", "needed products", "harness", "ratio"], rows)


def _floor(name: str, times: dict[str, Times]) -> float:
    own = times.get(f"floor {name}", times["floor plain"]).median
    return 3 * own if name.endswith("each") else own


def growth(base: Shape, effort: Effort) -> str:
    """Milliseconds as one thing grows and the others stay: what a step costs beside its product, and where."""
    latents = [replace(base, latents=base.latents * factor // 4) for factor in (1, 2, 4, 8)]
    ks = [replace(base, k=base.k * factor // 4) for factor in (1, 2, 4, 8)]
    depths = [replace(base, more={"layers": f"sparse {depth}" if depth > 1 else "none"}) for depth in (1, 2, 3, 5)]
    lines = {"latents": latents, "k": ks, "sparse layers": depths}
    entries = {f"{what} {n}": Entry("harness", shape) for what, of in lines.items() for n, shape in enumerate(of)}
    times = in_turns(entries, effort, "growth")
    labels = {
        "latents": [f"{shape.latents:,}" for shape in latents],
        "k": [f"{shape.k}" for shape in ks],
        "sparse layers": ["1", "2", "3", "5"],
    }
    rows: list[list[Value]] = []
    for what in lines:
        figures = [times[f"{what} {n}"].median for n in range(4)]
        rows.append([what, " / ".join(labels[what]), " / ".join(f"{ms:.0f}" for ms in figures)])
    return table(["size", "values", "ms per step"], rows)


__all__ = ["BASE", "SIZES", "against_peers", "by_variant", "growth", "memory"]
