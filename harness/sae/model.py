"""The SAE: coders (encoder layers, one sparse layer, decoder layers), stacked by residual coding.

A shallow SAE is one coder without added layers; a deep one is one coder with them; stacked sparse layers are
several coders, each of which codes what those before it left over. Nothing else tells them apart.

A transcoder (Dunefsky et al. 2024, arXiv 2406.11944) reconstructs a target that is not its input, such as an MLP's
output. All its coders read the input, since the target is not there at inference, and each of them predicts what
those before it left over of the target.

Shape letters: B tokens, I width of the input and D of the target (one and the same for an SAE), N latents of one
coder, K active ones, W width at the sparse layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from harness.sae.layers import DenseDecoder, DenseEncoder
from harness.sae.roles import Role
from harness.sae.shortlist import pays, top_k_of_product
from harness.sae.sizes import apportion, layer_widths
from harness.sae.sparse import (
    SparseCode,
    active_entries,
    decode,
    normalise_rows,
    pre_activations,
    project_rows,
    rounded,
)
from harness.sae.sparsifiers import Sparsifier
from harness.sae.support import Support


class CoderOutput(NamedTuple):
    """What one coder makes of a batch."""

    target: Tensor | None  # [B, D]: what the coders before it left over; None: a transcoder's, which was not given
    input: Tensor  # [B, W]: what its sparse layer saw
    code: SparseCode
    reconstruction: Tensor  # [B, D]

    @property
    def residual(self) -> Tensor:
        """What it leaves over: [B, D]. Of a transcoder only where its target was given."""
        assert self.target is not None
        return self.target - self.reconstruction


class SAEOutput(NamedTuple):
    """What an SAE makes of a batch: the sum of its coders' reconstructions [B, D], and what each of them did."""

    reconstruction: Tensor
    coders: tuple[CoderOutput, ...]


class Coder(nn.Module):
    """encoder layers -> linear -> sparsifier -> decoder layers.

    target_width: that of a transcoder's output; None for an SAE.

    An SAE's decoder starts as its encoder where both have one shape (Gao et al. 2024, section 2.4). A transcoder's
    directions of input and output have nothing to do with each other, so that its decoder starts at random unit
    rows, as in the code of Dunefsky et al. 2024 (`sae_training/sparse_autoencoder.py`).
    """

    ROLES: ClassVar = {"encoder": Role.ENCODER, "bias": Role.BIAS, "decoder": Role.DECODER}

    def __init__(
        self,
        width: int,
        latents: int,
        k: int,
        encoder_widths: Sequence[int],
        decoder_widths: Sequence[int],
        sparsifier: type[Sparsifier],
        generator: Generator,
        target_width: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder_mlp = DenseEncoder(width, encoder_widths, generator)
        self.decoder_mlp = DenseDecoder(width if target_width is None else target_width, decoder_widths, generator)
        rows = torch.randn(latents, self.encoder_mlp.width, generator=generator)
        self.encoder = nn.Parameter(normalize(rows, dim=1))
        self.bias = nn.Parameter(torch.zeros(latents))
        if target_width is None and self.decoder_mlp.width_in == self.encoder_mlp.width:
            rows = self.encoder.detach().clone()
        else:
            rows = torch.randn(latents, self.decoder_mlp.width_in, generator=generator)
        self.decoder = nn.Parameter(normalize(rows, dim=1))
        self.sparsifier = sparsifier(k, latents, self.encoder_mlp.scale)
        self.shortlist = self.sparsifier.SHORTLIST  # whether most pre-activations may stay unknown

    @property
    def latents(self) -> int:
        return len(self.encoder)

    def forward(self, x: Tensor, target: Tensor | None) -> CoderOutput:
        """x [B, I]: what it reads. target [B, D]: what it is to reconstruct, x itself in an SAE."""
        seen = self.encoder_mlp(x).to(x.dtype)  # under autocast, added layers end in a lower precision
        code = self.encode(seen)
        return CoderOutput(target, seen, code, self.decode(code.values, code.support))

    def encode(self, x: Tensor) -> SparseCode:
        """The code of what the sparse layer sees: x [B, W]."""
        dense = None
        with torch.no_grad():
            rounded_x = rounded(x)
            if self.shortlist and pays(x, self.latents, self.sparsifier.k):
                entries, indices = top_k_of_product(x, self.encoder, self.bias, self.sparsifier.k)
                entries, support = entries.flatten(), Support.of_rows(indices, self.latents)
            else:
                dense = pre_activations(rounded_x, self.encoder, self.bias)
                entries, support = self.sparsifier.select(dense)
        active = active_entries(x, self.encoder, self.bias, entries, support, rounded_x)
        return SparseCode(self.sparsifier.values(active, support), active, support, dense)

    def decode(self, values: Tensor, support: Support) -> Tensor:
        """The reconstruction [B, D] of a code."""
        mlp = self.decoder_mlp
        rows = mlp.behind(decode(values, support, self.decoder, mlp.first_bias))
        return rows.to(self.decoder.dtype)  # added layers end in autocast's precision


class SAE(nn.Module):
    """A stack of coders whose reconstructions add up: activations [B, D], centred and scaled, -> SAEOutput.

    A transcoder's reconstruct a target [B, D] from an input [B, I] instead.
    """

    def __init__(
        self, coders: Sequence[Coder], proportions: Sequence[float], *, is_transcoder: bool = False
    ) -> None:
        super().__init__()
        self.coders = nn.ModuleList(coders)
        self.proportions = tuple(proportions)  # each coder's part of k
        self.is_transcoder = is_transcoder

    def forward(self, x: Tensor, target: Tensor | None = None) -> SAEOutput:
        """target: a transcoder's, where it is known: its reconstruction does not depend on it. An SAE's is x."""
        parts = self._transcoded(x, target) if self.is_transcoder else self._autoencoded(x)
        reconstruction = parts[0].reconstruction
        for part in parts[1:]:
            reconstruction = reconstruction + part.reconstruction
        return SAEOutput(reconstruction, tuple(parts))

    def _autoencoded(self, x: Tensor) -> list[CoderOutput]:
        parts: list[CoderOutput] = []
        for coder in self.stack():
            left = parts[-1].residual if parts else x
            parts.append(coder(left, left))
        return parts

    def _transcoded(self, x: Tensor, target: Tensor | None) -> list[CoderOutput]:
        parts: list[CoderOutput] = []
        for coder in self.stack():
            left = parts[-1].residual if parts and target is not None else target
            parts.append(coder(x, left))
        return parts

    def stack(self) -> list[Coder]:
        """The coders, in the order in which they code."""
        return [coder for coder in self.coders if isinstance(coder, Coder)]

    @property
    def latents(self) -> int:
        """Of all coders together."""
        return sum(coder.latents for coder in self.stack())

    def set_active(self, k: int) -> None:
        """Let `k` latents per token be active, over all coders in the proportions that they were built in.

        At least one of each: the largest remainders may leave a small coder none on the way between two numbers.
        """
        for coder, active in zip(self.stack(), apportion(k, self.proportions), strict=True):
            coder.sparsifier.k = max(1, active)

    def decoders(self) -> list[nn.Parameter]:
        return [coder.decoder for coder in self.stack()]

    def normalise_decoders(self) -> None:
        """Bring every latent's decoder row back to unit norm."""
        for decoder in self.decoders():
            normalise_rows(decoder)

    def project_decoder_gradients(self) -> None:
        """Remove the part of each decoder row's gradient that would only change the row's norm."""
        for decoder in self.decoders():
            if decoder.grad is not None:
                project_rows(decoder.grad, decoder)


def build_sae(
    width: int,
    latents: int,
    k: int,
    *,
    encoder: Sequence[float] = (),
    decoder: Sequence[float] = (),
    stack: Sequence[float] = (1.0,),
    sparsifier: type[Sparsifier],
    generator: Generator,
    target_width: int | None = None,
) -> SAE:
    """An SAE of stacked coders, one for each entry of `stack`; a transcoder if it has a `target_width`.

    stack: each coder's part of `latents` and of `k`; (1, 1) gives both coders all of them.
    encoder, decoder: widths of each coder's added dense layers, as multiples of the activation width; of a
    transcoder's decoder, as multiples of the width of its target.
    The weights come from `generator` alone (a CPU generator, so that they are the same on every device).
    """
    sizes = zip(apportion(latents, stack), apportion(k, stack), strict=True)
    encoder_mlp = layer_widths(width, encoder)
    decoder_mlp = layer_widths(width if target_width is None else target_width, decoder)
    coders = [
        Coder(width, n, active, encoder_mlp, decoder_mlp, sparsifier, generator, target_width)
        for n, active in sizes
    ]
    return SAE(coders, stack, is_transcoder=target_width is not None)
