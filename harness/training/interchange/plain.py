"""An SAE of one sparse layer as other packages have it: its weights take activations in their own units.

Here an SAE sees z = E (x - m) / s + b, and its reconstruction is s (D^T v + o) + m, where m and s centre and scale
activations. With W = E / s, decoder rows s D and output bias c = s o + m the same is

    z = W (x - c) + (b - W (m - c)),  reconstruction = (s D)^T v + c

so that latents v and reconstructions are the same numbers, to rounding. Taking c away before the product, as both
packages do for SAEs, keeps the precision where the mean is much larger than what varies. A transcoder, whose c is
not of its input, has z = W x + (b - W m).

Shape letters: I width of the input and D of the target (one and the same for an SAE), N latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import SettingError, UserError
from harness.study.recipe import Recipe
from harness.training.centring import Centring
from harness.training.sae_files import SAEConfig

MEAN = {"centred": 1.0, "uncentred": 0.0}  # how much of the mean is taken away before an SAE sees activations
CODER = "coders.0."


@dataclass(frozen=True)
class PlainSAE:
    """Weights, float32, and what selects: the k largest pre-activations, all that are positive, or all above
    thresholds.

    subtract: whether bias_out is taken from activations before they are encoded.
    """

    encoder: Tensor  # [N, I]
    bias: Tensor  # [N]
    decoder: Tensor  # [N, D]
    bias_out: Tensor  # [D]
    sparsifier: str  # topk, relu or jumprelu
    k: int | None = None  # of topk
    threshold: Tensor | None = None  # [N], of jumprelu
    subtract: bool = True
    transcoder: bool = False


def why_not(config: SAEConfig) -> str | None:
    """Why an SAE has no plain form; None if it has one."""
    recipe = config.recipe
    if recipe.layers != "none":
        return f"layers: {recipe.layers}: other packages have SAEs of one sparse layer without added layers only"
    if recipe.inputs not in MEAN:
        return f"inputs: {recipe.inputs}: other packages do not divide each token by a number of its own like this"
    return None


def plain(config: SAEConfig, weights: Mapping[str, Tensor]) -> PlainSAE:
    """The plain form of what `read_folder` or `SAE.state_dict` give, where `why_not` finds nothing.

    Batch top-k selects all above its calibrated threshold once it is trained, as JumpReLU does.
    """
    here = {name.removeprefix(CODER): tensor.detach().double().cpu() for name, tensor in weights.items()}
    given, wanted = (_seen(centring, config.recipe.inputs) for centring in (config.input, config.target))
    decoder = here["decoder"] * wanted.scale
    bias_out = here["decoder_mlp.bias_out"] * wanted.scale + wanted.mean
    encoder = here["encoder"] / given.scale
    subtract = not config.transcoder
    bias = here["bias"] - encoder @ (given.mean - bias_out if subtract else given.mean)
    sparsifier, threshold = config.recipe.sparsifier, None
    if sparsifier == "batchtopk":
        sparsifier, threshold = "jumprelu", here["sparsifier.cutoff"].expand(len(bias)).float().contiguous()
    elif sparsifier == "jumprelu":  # in float32, as here, so that they are the same thresholds
        threshold = here["sparsifier.log_threshold"].float().exp() * here["sparsifier.cutoff"].float()
    return PlainSAE(
        encoder.float(),
        bias.float(),
        decoder.float(),
        bias_out.float(),
        sparsifier=sparsifier,
        k=config.k if sparsifier == "topk" else None,
        threshold=threshold,
        subtract=subtract,
        transcoder=config.transcoder,
    )


def from_plain(
    sae: PlainSAE, package: str, where: str, centrings: tuple[Centring, Centring] | None = None
) -> tuple[SAEConfig, dict[str, Tensor]]:
    """The other way: config and weights as `read_folder` gives them.

    centrings: of the inputs and targets that the weights are to work on; if left out, of scale 1 and the mean that
    leaves all weights as they are.
    Of the recipe only `latents`, `sparsifier`, `inputs` and top-k's `k` are known. Raises UserError, which names
    the file `where`, for shapes that do not fit each other.
    """
    latents, width = _shape(sae.encoder, where)
    target_width = _shape(sae.decoder, where)[1]
    threshold = sae.threshold if sae.sparsifier == "jumprelu" else None
    shapes = {"bias": (sae.bias, latents), "bias_out": (sae.bias_out, target_width)}
    shapes |= {} if threshold is None else {"threshold": (threshold, latents)}
    fits = all(tensor.shape == (size,) for tensor, size in shapes.values()) and len(sae.decoder) == latents
    if not fits or (target_width != width and not sae.transcoder):
        raise UserError(f"{where}: expected weights whose shapes fit each other")
    given, target = centrings or _as_they_are(sae)
    if (len(given.mean), len(target.mean)) != (width, target_width):
        raise UserError(f"{where}: expected width {len(given.mean)}, got {width}")
    encoder, bias_out = sae.encoder.double(), sae.bias_out.double()
    shift = given.mean.double() - (bias_out if sae.subtract else 0)
    weights = {
        "encoder": (encoder * given.scale.double()).float(),
        "bias": (sae.bias.double() + encoder @ shift).float(),
        "decoder": (sae.decoder.double() / target.scale.double()).float(),
        "decoder_mlp.bias_out": ((bias_out - target.mean.double()) / target.scale.double()).float(),
    }
    if threshold is not None:
        weights |= {"sparsifier.log_threshold": threshold.clamp_min(0).log(), "sparsifier.cutoff": torch.ones(())}
    k = sae.k or 1
    try:
        recipe = Recipe(
            latents=latents,
            k=k,
            tokens=1,
            batch=1,
            sparsifier=sae.sparsifier,
            sparsity=None if sae.sparsifier == "topk" else 1.0,
        )
    except SettingError as failure:
        raise UserError(f"{where}: {failure}") from None
    config = SAEConfig(recipe, given, target, harness=None, k=k, transcoder=sae.transcoder, package=package)
    return config, {CODER + name: tensor.contiguous() for name, tensor in weights.items()}


def _as_they_are(sae: PlainSAE) -> tuple[Centring, Centring]:
    target = Centring(sae.bias_out if sae.subtract else torch.zeros_like(sae.bias_out), torch.ones(()))
    return (Centring(torch.zeros(sae.encoder.shape[1]), torch.ones(())) if sae.transcoder else target), target


def _seen(centring: Centring, inputs: str) -> Centring:
    """What is taken away of activations, and what they are divided by, in all: in float64."""
    return Centring(centring.mean.double().cpu() * MEAN[inputs], centring.scale.double().cpu())


def _shape(matrix: Tensor, where: str) -> tuple[int, int]:
    if matrix.dim() != 2:
        raise UserError(f"{where}: expected weights whose shapes fit each other")
    return matrix.shape[0], matrix.shape[1]
