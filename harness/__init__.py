"""Ablation studies of sparse autoencoders: define a grid, run it to the end, compare with intervals."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.training.trained_sae import TrainedSAE, load_sae

__all__ = ["TrainedSAE", "load_sae"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: most commands need no torch."""
    if name in __all__:
        return getattr(import_module("harness.training.trained_sae"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
