"""The format of sparsify 1.3 (`SparseCoder.save_to_disk`, `.load_from_disk`): `cfg.json` and `sae.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from harness.errors import UserError
from harness.training.interchange.files import CONFIG, field, read_config, read_weights, write_files
from harness.training.interchange.plain import PlainSAE, from_plain, plain, why_not
from harness.training.sae_files import WEIGHTS, SAEConfig

NAME = PACKAGE = "sparsify"
FILES = WEIGHTS, CONFIG
NAMES = {"encoder": "encoder.weight", "bias": "encoder.bias", "decoder": "W_dec", "bias_out": "b_dec"}


def is_one(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def refusal(config: SAEConfig) -> str | None:
    """Why an SAE cannot be written in this format; None if it can."""
    if (sparsifier := config.recipe.sparsifier) != "topk":
        return f"sparsifier: {sparsifier}: {PACKAGE} has top-k only"
    if config.target_width not in (None, config.width):
        widths = f"{config.width} to {config.target_width}"
        return f"target: {PACKAGE} has transcoders of one width only, not from {widths}"
    return why_not(config)


def write(folder: Path, config: SAEConfig, weights: Mapping[str, Tensor]) -> None:
    """Write both files; `refusal` says of which SAEs that is possible."""
    sae = plain(config, weights)
    record = {
        "activation": "topk",
        "expansion_factor": max(1, len(sae.encoder) // sae.encoder.shape[1]),
        "normalize_decoder": False,  # in training; rows have the norm of what activations were scaled by
        "num_latents": len(sae.encoder),
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": sae.transcoder,
        "d_in": sae.encoder.shape[1],
    }
    write_files(folder, record, WEIGHTS, {theirs: getattr(sae, ours) for ours, theirs in NAMES.items()})


def read(folder: Path) -> tuple[SAEConfig, dict[str, Tensor]]:
    """What `sae_files.read_folder` gives, of an SAE that sparsify or `write` has written. Raises UserError."""
    path, config = folder / CONFIG, read_config(folder)
    for key, here in (("activation", "topk"), ("skip_connection", False), ("signed", False)):
        if (found := config.get(key, here)) != here:
            raise UserError(f"{path}: {key}: expected {here!r}, got {found!r}")
    transcoder = field(config, folder, "transcode", bool, False)
    sae = PlainSAE(
        **read_weights(folder / WEIGHTS, NAMES),
        sparsifier="topk",
        k=field(config, folder, "k", int),
        subtract=not transcoder,
        transcoder=transcoder,
    )
    return from_plain(sae, PACKAGE, str(folder / WEIGHTS))
