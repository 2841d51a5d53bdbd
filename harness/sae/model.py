"""The SAE: coders (encoder layers, one sparse layer, decoder layers), stacked by residual coding.

A shallow SAE is one coder without added layers; a deep one is one coder with them; stacked sparse layers are
several coders, each of which codes what those before it left over. Nothing else tells them apart.

Shape letters: B tokens, D activation width, N latents of one coder, K active ones, W width at the sparse layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from harness.sae.layers import DenseDecoder, DenseEncoder
from harness.sae.roles import Role
from harness.sae.sizes import layer_widths, shares
from harness.sae.sparse import SparseCode, decode, encode_top_k


class Coded(NamedTuple):
    """What one coder, or the whole SAE, makes of a batch."""

    reconstruction: Tensor  # [B, D]
    codes: tuple[SparseCode, ...]  # one a coder
    inputs: tuple[Tensor, ...]  # [B, W], one a coder: what its sparse layer saw


class Coder(nn.Module):
    """encoder layers -> linear -> ReLU -> top-k -> decoder layers."""

    ROLES: ClassVar = {"encoder": Role.ENCODER, "bias": Role.BIAS, "decoder": Role.DECODER}

    def __init__(
        self,
        width: int,
        latents: int,
        k: int,
        encoder_widths: Sequence[int],
        decoder_widths: Sequence[int],
        generator: Generator,
    ) -> None:
        super().__init__()
        self.k = k
        self.before = DenseEncoder(width, encoder_widths, generator)
        self.behind = DenseDecoder(width, decoder_widths, generator)
        rows = torch.randn(latents, self.before.width, generator=generator)
        self.encoder = nn.Parameter(normalize(rows, dim=1))
        self.bias = nn.Parameter(torch.zeros(latents))
        if self.behind.width_in == self.before.width:  # tied initialisation: Gao et al. 2024, section 2.4
            rows = self.encoder.detach().clone()
        else:
            rows = torch.randn(latents, self.behind.width_in, generator=generator)
        self.decoder = nn.Parameter(normalize(rows, dim=1))

    def forward(self, x: Tensor) -> Coded:
        x = self.before(x)
        code = encode_top_k(x, self.encoder, self.bias, self.k)
        return Coded(self.behind(decode(code, self.decoder)), (code,), (x,))


class SAE(nn.Module):
    """A stack of coders whose reconstructions add up: activations [B, D], centred and scaled, -> Coded."""

    def __init__(self, coders: Sequence[Coder]) -> None:
        super().__init__()
        self.coders = nn.ModuleList(coders)

    def forward(self, x: Tensor) -> Coded:
        residual = x
        codes: list[SparseCode] = []
        inputs: list[Tensor] = []
        for coder in self.stack():
            coded = coder(residual)
            residual = residual - coded.reconstruction
            codes += coded.codes
            inputs += coded.inputs
        return Coded(x - residual, tuple(codes), tuple(inputs))

    def stack(self) -> list[Coder]:
        """The coders, in the order in which they code."""
        return [coder for coder in self.coders if isinstance(coder, Coder)]

    def decoders(self) -> list[nn.Parameter]:
        return [coder.decoder for coder in self.stack()]

    @torch.no_grad()
    def normalise_decoders(self) -> None:
        """Bring every latent's decoder row back to unit norm."""
        for decoder in self.decoders():
            decoder.div_(torch.linalg.vector_norm(decoder, dim=1, keepdim=True).clamp_min_(1e-12))

    @torch.no_grad()
    def project_decoder_gradients(self) -> None:
        """Remove the part of each decoder row's gradient that would only change the row's norm."""
        for decoder in self.decoders():
            if decoder.grad is not None:
                decoder.grad.sub_((decoder.grad * decoder).sum(1, keepdim=True) * decoder)


def build_sae(
    width: int,
    latents: int,
    k: int,
    *,
    encoder: Sequence[float] = (),
    decoder: Sequence[float] = (),
    depth: int = 1,
    generator: Generator,
) -> SAE:
    """An SAE of `depth` stacked coders that share `latents` and `k` as evenly as whole numbers allow.

    encoder, decoder: widths of each coder's added dense layers, as multiples of the activation width.
    The weights come from `generator` alone (a CPU generator, so that they are the same on every device).
    """
    sizes = zip(shares(latents, depth), shares(k, depth), strict=True)
    before, behind = layer_widths(width, encoder), layer_widths(width, decoder)
    return SAE([Coder(width, n, active, before, behind, generator) for n, active in sizes])
