"""Kernels in C++ for what a step needs besides products and `embedding_bag`, on CPUs.

They are compiled once, in seconds, when they are first wanted and a compiler (g++, or what CXX names) is there;
elsewhere the plain-PyTorch versions beside their callers do the same. `HARNESS_NATIVE=0` leaves them out.

Shape letters: B tokens, N latents, D width, K active latents per token, A active entries.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
SOURCES = ("kernels.cpp", "product.h", "rows.h")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC")
LONGEST = 120  # seconds that a compiler may take


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, compiled for this processor; None where that is not possible or not wanted."""
    if os.environ.get("HARNESS_NATIVE") == "0":
        return None
    try:
        found = _load(f"kernels-{_fingerprint()}.so")
    except (OSError, subprocess.SubprocessError):
        return None
    if hasattr(found, "top_k_of_product_bytes"):
        found.top_k_of_product_bytes.restype = ctypes.c_int64
    return found


def _load(name: str) -> ctypes.CDLL:
    """The library of this name from the cache; where that keeps none, from a folder for this process."""
    try:
        path = _cache() / name
        if not path.exists():
            _compile(path)
        return ctypes.CDLL(str(path))
    except OSError:
        with tempfile.TemporaryDirectory() as folder:  # what is loaded does not need its file any more
            path = Path(folder) / name
            _compile(path)
            return ctypes.CDLL(str(path))


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels are there and take these: float32, contiguous, on a CPU, outside of autocast.

    They trust their callers: no more entries are asked for than a row has, and indices lie within it.
    """
    fit = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in tensors)
    return fit and not torch.is_autocast_enabled("cpu") and library() is not None


def has_int16() -> bool:
    """Whether `top_k_of_product` is there: on processors with AVX512-VNNI without AMX, or AVX2 without AVX-512."""
    return hasattr(library(), "top_k_of_product")


def top_k(dense: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `harness.sae.topk.top_k`; of equal entries the first are taken."""
    values, indices = _selected(len(dense), k)
    _call("top_k", dense, *dense.shape, k, values, indices)
    return values, indices


def top_k_of_product(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `harness.sae.shortlist.top_k_of_product`, by products in int16."""
    values, indices = _selected(len(x), k)
    kernels = library()
    assert kernels is not None
    size = kernels.top_k_of_product_bytes(*map(ctypes.c_int64, weight.shape))
    memory = torch.empty(size, dtype=torch.uint8)  # torch's allocator says what is wrong where there is none
    _call("top_k_of_product", x, weight, bias, len(x), *weight.shape, k, memory, values, indices)
    return values, indices


def top_k_near(
    rough: Tensor, error: Tensor, relative: float, x: Tensor, weight: Tensor, bias: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of x W^T + bias, of which `rough` [B, N], in bfloat16, is known already.

    Each entry of it may be off by `error` [B] and by `relative` of itself. Values and indices [B, K].
    """
    values, indices = _selected(len(x), k)
    sizes = (len(x), *weight.shape, k)
    _call("top_k_near", rough, error, relative, x, weight, bias, *sizes, values, indices)
    return values, indices


def by_latent(indices: Tensor, tokens: Tensor, latents: int) -> tuple[Tensor, Tensor, Tensor]:
    """Entries ordered by latent: indices [A] and tokens [A] -> order [A], tokens in it [A], first places [N]."""
    order, ordered = torch.empty_like(indices), torch.empty_like(tokens)
    starts = indices.new_empty(latents)
    _call("by_latent", indices, tokens, len(indices), latents, order, ordered, starts)
    return order, ordered, starts


def inner_products(rows: Tensor, weight: Tensor, indices: Tensor, starts: Tensor) -> Tensor:
    """Each token's row [B, D] times its active rows of weight [N, D]: indices [A], starts [B] -> [A]."""
    products = rows.new_empty(len(indices))
    _call("inner_products", rows, weight, indices, starts, len(rows), len(indices), rows.shape[1], products)
    return products


def weighted_tokens(values: Tensor, rows: Tensor, order: Tensor, tokens: Tensor, starts: Tensor) -> Tensor:
    """Sum over a latent's active tokens of value · token row: values [A], rows [B, D] -> [N, D]; the others as
    `by_latent` gives them."""
    sums = rows.new_empty(len(starts), rows.shape[1])
    sizes = (len(starts), len(values), rows.shape[1])
    _call("weighted_tokens", values, rows, order, tokens, starts, *sizes, sums)
    return sums


def project(gradient: Tensor, weight: Tensor) -> None:
    """Take from each row of gradient [N, D] its part along the row of weight [N, D], which has unit norm."""
    _call("project", gradient, weight, *weight.shape)


def normalise(weight: Tensor) -> None:
    """Bring each row of weight [N, D] to unit norm."""
    _call("normalise", weight, *weight.shape)


def _selected(batch: int, k: int) -> tuple[Tensor, Tensor]:
    return torch.empty(batch, k), torch.empty(batch, k, dtype=torch.int64)


def _call(name: str, *arguments: Tensor | int | float) -> None:
    """Call a kernel, whose arrays are pointers and whose numbers are float or int64_t."""
    getattr(library(), name)(*map(_argument, arguments))


def _argument(value: Tensor | int | float) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_float:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)


def _cache() -> Path:
    """Where compiled kernels are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "harness"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compiler() -> str:
    return os.environ.get("CXX") or "g++"


def _fingerprint() -> str:
    """Of all that decides the code: sources, compiler, flags, and the processor that `native` stands for."""
    version = subprocess.run([_compiler(), "--version"], capture_output=True, check=True, timeout=LONGEST).stdout
    parts = [version, " ".join(FLAGS).encode(), *((FOLDER / name).read_bytes() for name in SOURCES)]
    parts.append(repr(sorted(torch.cpu.get_capabilities().items())).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(path: Path) -> None:
    """Build the library beside and rename it. Its OpenMP is the one that torch has loaded: none is linked."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder)
        commands = (
            [_compiler(), *FLAGS, "-c", str(FOLDER / SOURCES[0]), "-o", str(made / "kernels.o")],
            [_compiler(), "-shared", str(made / "kernels.o"), "-o", str(made / "kernels.so")],
        )
        for command in commands:
            subprocess.run(command, capture_output=True, check=True, timeout=LONGEST)
        (made / "kernels.so").replace(path)
