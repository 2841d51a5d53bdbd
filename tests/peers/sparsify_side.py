"""Runs in sparsify's own environment, which has no harness: what its code makes of an SAE.

python sparsify_side.py load FOLDER ACTIVATIONS OUT   its codes [T, N] and reconstructions of an SAE in FOLDER
python sparsify_side.py make FOLDER ACTIVATIONS OUT   the same of one of its own, which it first writes there
python sparsify_side.py make-transcoder ...           likewise
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig

LATENTS, K = 40, 5


def made(width: int, *, transcode: bool) -> SparseCoder:
    torch.manual_seed(5)
    sae = SparseCoder(width, SparseCoderConfig(num_latents=LATENTS, k=K, transcode=transcode), dtype=torch.float32)
    for parameter in sae.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return sae


def main(what: str, folder: Path, activations: Path, out: Path) -> None:
    x = load_file(activations)["x"]
    if what != "load":
        made(x.shape[1], transcode=what == "make-transcoder").save_to_disk(folder)
    sae = SparseCoder.load_from_disk(folder)
    with torch.no_grad():
        top, indices, _ = sae.encode(x)
        codes = torch.zeros(len(x), sae.num_latents).scatter_(1, indices, top)
        save_file({"codes": codes, "reconstruction": sae(x).sae_out}, out)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
