"""Finds a pretrained model's files: a folder of this machine, or a repository on the hub at a pinned commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from harness.activations.folders import sha256_of
from harness.activations.text_spec import Raise

NAME, REVISION = ("model", "name"), ("model", "revision")
TOKENIZER = ("tokenizer*", "*.model", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json")
WANTED = ("*.safetensors", "*.safetensors.index.json", "config.json", *TOKENIZER)
NO_WEIGHTS = ("config.json", *TOKENIZER)
METRICS = "metrics.json"  # of a model that was trained here
UNWANTED = ("*/*", "consolidated*")  # other formats in folders of their own; Mistral's second copy


class ModelFolder(NamedTuple):
    """A model's files on this machine, and the commit that they are of (None: not of the hub)."""

    path: Path
    commit: str | None


def find_model(name: str, revision: str | None, error: Raise) -> ModelFolder:
    """The folder of that name, or the repository's files, downloaded where they are not in the cache yet.

    Raises UserError if there are none, or no weights in safetensors.
    """
    found = _find(name, revision, WANTED, error)
    if not list(found.path.glob("*.safetensors")):
        others = sorted(path.name for path in found.path.glob("*.bin"))
        there = f", only {others[0]}, which is a pickle and may run code" if others else ""
        there += ", or they are not in the hub's cache yet" if found.commit else ""
        raise error(NAME, f"expected a model with weights in *.safetensors; {name} has none{there}")
    if not (found.path / "config.json").is_file():
        raise error(NAME, f"expected a model; {name} has no config.json")
    return found


def find_without_weights(name: str, revision: str | None, error: Raise) -> list[Path]:
    """The files of the configuration and of the tokenizer, all in one folder; weights are not downloaded.

    Raises UserError if there is no configuration.
    """
    read_config(name, revision, error)
    folder = _find(name, revision, NO_WEIGHTS, error).path
    return sorted({file for pattern in NO_WEIGHTS for file in folder.glob(pattern) if file.is_file()})


def read_config(name: str, revision: str | None, error: Raise) -> dict[str, Any]:
    """The model's `config.json`, and nothing else of it. Raises UserError if there is none."""
    file = _find(name, revision, ("config.json",), error).path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(NAME, f"expected a model; {name} has no config.json") from None
    except (OSError, ValueError) as failure:
        raise error(NAME, f"expected a model; its config.json cannot be read: {failure}") from None
    if not isinstance(config, dict):
        raise error(NAME, "expected a model; its config.json is no object")
    return config


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Of a model that also sees or hears: the part about its language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def hidden_size(config: dict[str, Any]) -> int | None:
    """Width of the residual stream, if `config.json` says it."""
    here = text_config(config)
    size = next((here[key] for key in ("hidden_size", "n_embd", "d_model") if key in here), None)
    return size if isinstance(size, int) else None


def fingerprint_of_model(folder: Path) -> str:
    """sha256 of weights, configuration and tokenizer: all that decides what a text's activations are."""
    patterns = ("*.safetensors", "config.json", *TOKENIZER)
    return sha256_of(sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}))


def _find(name: str, revision: str | None, patterns: tuple[str, ...], error: Raise) -> ModelFolder:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise error(REVISION, f"expected none, since {name} is a folder")
        return ModelFolder(folder, None)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise error(NAME, f"expected a folder or a repository on the hub; there is no folder {name}")
    return _download(name, revision, patterns, error)


def _download(name: str, revision: str | None, patterns: tuple[str, ...], error: Raise) -> ModelFolder:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        path = snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(UNWANTED)
        )
    except GatedRepoError:
        message = f"{name} asks that its terms are accepted on the hub; do that, then log in: hf auth login"
        raise error(NAME, message) from None
    except RevisionNotFoundError:
        raise error(REVISION, f"{name} has no revision {revision!r}") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise error(NAME, f"no folder and no repository on the hub {name!r} (or it is private)") from None
    except LocalEntryNotFoundError:
        message = f"no folder {name!r} here, the hub cannot be reached, and the model is not in its cache"
        raise error(NAME, message) from None
    except Exception as failure:  # of the connection, which is another package's, or of the disk
        reason = next(iter(str(failure).splitlines()), type(failure).__name__)
        raise error(NAME, f"{name} could not be downloaded: {reason}") from None
    return ModelFolder(Path(path), Path(path).name)
