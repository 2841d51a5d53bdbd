"""Folders of trained SAEs, in the formats of three packages: this one, SAELens and sparsify.

Each format is a module with `NAME`, `PACKAGE`, `is_one(folder)`, `read(folder)`, `refusal(config)` and
`write(folder, config, weights)`. `config` and `weights` are those of `sae_files`: the others convert.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from torch import Tensor

from harness.errors import UserError
from harness.training import sae_files
from harness.training.interchange import sae_lens, sparsify
from harness.training.sae_files import SAEConfig

OTHERS: dict[str, ModuleType] = {other.NAME: other for other in (sae_lens, sparsify)}
FORMATS = ("harness", *OTHERS)


def format_of(folder: Path) -> str | None:
    """The format of the SAE in a folder, by the names of its files; None where there is none."""
    found = (name for name, other in OTHERS.items() if other.is_one(folder))
    return next(found, "harness" if (folder / sae_files.CONFIG_FILE).is_file() else None)


def files_of(folder: Path) -> tuple[str, ...]:
    """The names of the files of the SAE in a folder; none where there is none."""
    name = format_of(folder)
    return () if name is None else (sae_files if name == "harness" else OTHERS[name]).FILES


def read_sae(folder: Path) -> tuple[SAEConfig, dict[str, Tensor]]:
    """An SAE in any of the formats. Raises UserError where it is damaged, or has no counterpart here."""
    other = OTHERS.get(format_of(folder) or "")
    return sae_files.read_folder(folder) if other is None else other.read(folder)


def refusal(config: SAEConfig, name: str) -> str | None:
    """Why an SAE cannot be written in this format; None if it can."""
    if name not in OTHERS:
        return None
    why: str | None = OTHERS[name].refusal(config)
    return why


def write_sae(folder: Path, config: SAEConfig, weights: dict[str, Tensor], name: str) -> None:
    """Write an SAE in one of FORMATS. Raises UserError, and writes nothing, if it has no counterpart."""
    if (why := refusal(config, name)) is not None:
        raise UserError(why)
    write = OTHERS[name].write if name in OTHERS else sae_files.write_folder
    write(folder, config, weights)
