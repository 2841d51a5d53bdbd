"""A pretrained model's architecture and tokenizer with random weights: a null for what is said of its latents."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.activations.folders import replacing, sha256_of
from harness.activations.model_files import find_without_weights
from harness.activations.pretrained_model import new_model
from harness.activations.quiet import no_bars
from harness.files import read_record, write_json

if TYPE_CHECKING:
    from harness.activations.stream_file import ModelSpec
    from harness.sources.pretrained import Pretrained

MADE_OF = "made_of.json"


def random_model(source: Pretrained, out: Path) -> ModelSpec:
    """The model as it is before its first step of training, in the folder `out`; made there unless it is.

    Its weights are those that `transformers` gives the architecture to begin with, by the source's seed; those of
    the trained model are not downloaded. `out` is replaced as a whole. Raises UserError if there is no such model.
    """
    asked = source.model
    files = find_without_weights(asked.name, asked.revision, source.error)
    made_of = {"files": sha256_of(files), "seed": asked.seed, "dtype": asked.dtype}
    if not out.exists() or read_record(out / MADE_OF) != made_of:
        with replacing(out, MADE_OF) as folder, no_bars():
            for file in files:
                shutil.copyfile(file, folder / file.name)
            new_model(files[0].parent, asked.dtype, asked.seed).save_pretrained(folder)
            write_json(folder / MADE_OF, made_of, wait=False)
    return source.model_read.model_copy(update={"name": str(out), "revision": None})
