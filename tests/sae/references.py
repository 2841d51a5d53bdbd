"""SAEs written out densely from their formulas, by plain PyTorch: what the sparse arithmetic is held against.

Shape letters: B tokens, D activation width, N latents of one coder.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from harness.sae.model import SAE, Coder, build_sae
from harness.study.catalogue import ARCHITECTURES, SPARSIFIERS, parse_layers

LAYERS = [example for spec in ARCHITECTURES.values() for example in spec.examples]
WIDTH, LATENTS, K = 6, 41, 7  # no multiple of eight, and a k that three layers do not share evenly


def build(
    layers: str,
    sparsifier: str = "topk",
    *,
    width: int = WIDTH,
    latents: int = LATENTS,
    k: int = K,
    target_width: int | None = None,
) -> SAE:
    """An SAE, or a transcoder, in which biases, gains and thresholds differ from latent to latent."""
    parsed = parse_layers(layers)
    generator = torch.Generator().manual_seed(3)
    sae = build_sae(
        width,
        latents,
        k,
        encoder=parsed.encoder,
        decoder=parsed.decoder,
        stack=parsed.stack,
        sparsifier=SPARSIFIERS[sparsifier].load(),
        generator=generator,
        target_width=target_width,
    )
    for parameter in sae.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return sae


def activations(tokens: int = 9, width: int = WIDTH) -> Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(4))


def before(coder: Coder, x: Tensor) -> Tensor:
    """[linear -> ReLU -> LayerNorm] x m, / sqrt(width)."""
    for block in coder.encoder_mlp.blocks:
        x = layer_norm((x @ block.weight.T + block.bias).relu(), (len(block.bias),), block.gain, block.shift)
    return x / x.shape[1] ** 0.5 if len(coder.encoder_mlp.blocks) else x


def behind(coder: Coder, rows: Tensor) -> Tensor:
    """[linear -> ReLU] x m, linear; the sparse layer's decoder is the first of these linear layers."""
    if coder.decoder_mlp.weight_out is None:
        return rows + coder.decoder_mlp.bias_out
    x = (rows + coder.decoder_mlp.bias_in).relu()
    for block in coder.decoder_mlp.blocks:
        x = (x @ block.weight.T + block.bias).relu()
    return x @ coder.decoder_mlp.weight_out.T + coder.decoder_mlp.bias_out


def sparsify(coder: Coder, pre: Tensor) -> Tensor:
    """The code [B, N] of pre-activations [B, N], in training."""
    sparsifier, k = coder.sparsifier, coder.sparsifier.k
    if isinstance(sparsifier, SPARSIFIER_TYPES["topk"]):
        return pre.relu() * (pre >= pre.topk(k, dim=1).values[:, -1:])
    if isinstance(sparsifier, SPARSIFIER_TYPES["batchtopk"]):
        return pre.relu() * (pre >= pre.flatten().topk(k * len(pre)).values[-1])
    if isinstance(sparsifier, SPARSIFIER_TYPES["relu"]):
        return pre.relu()
    return pre * (pre > sparsifier.log_threshold.exp())


SPARSIFIER_TYPES = {name: spec.load() for name, spec in SPARSIFIERS.items()}


def dense(sae: SAE, x: Tensor, target: Tensor | None = None) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """What each coder is to reconstruct, sees before its sparse layer, codes, and makes of it.

    target: that of a transcoder, whose coders all see x; an SAE's see what those before them leave over.
    """
    parts, left = [], x if target is None else target
    for coder in sae.stack():
        seen = before(coder, left if target is None else x)
        code = sparsify(coder, seen @ coder.encoder.T + coder.bias)
        parts.append((left, seen, code, behind(coder, code @ coder.decoder)))
        left = left - parts[-1][3]
    return parts


def differentiable(sae: SAE) -> list[Tensor]:
    """All parameters but those that have a pseudo-derivative alone."""
    return [p for name, p in sae.named_parameters() if not name.endswith("log_threshold")]
