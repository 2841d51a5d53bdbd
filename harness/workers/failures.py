"""How a cell ends, on its worker."""

from __future__ import annotations

import traceback
from typing import Literal

import torch

from harness.files import write_atomically
from harness.training.backward import Indivisible
from harness.workers.cell_folder import CellFolder

End = Literal["done", "failed", "stopped", "busy", "out_of_memory"]
# On a CPU; of the CUDA driver, to torch and to Triton; of cuBLAS and cuSOLVER, which take memory of their own.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "_STATUS_ALLOC_FAILED",
)


def failed(folder: CellFolder, failure: Exception) -> End:
    """How a cell ends that raised this: kept whole in the log, one line goes up.

    A GPU does nothing more for this process after some errors, whichever cell they came from: these are raised.
    """
    write_atomically(folder.log, traceback.format_exc().encode())
    if is_out_of_memory(failure):
        return "out_of_memory"
    if isinstance(failure, torch.AcceleratorError):
        raise failure
    folder.fail(reason_of(failure))
    return "failed"


def is_out_of_memory(failure: Exception) -> bool:
    """torch has an error of its own for memory that it gives out on a GPU; for all other there is only a text."""
    if isinstance(failure, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(failure, RuntimeError) and any(text in str(failure) for text in OUT_OF_MEMORY)


def reason_of(failure: Exception) -> str:
    """One line for people."""
    if isinstance(failure, Indivisible):
        return f"out of memory: {failure}"
    return f"{type(failure).__name__}: {failure}".splitlines()[0]
