"""The format of SAELens 6 (`SAE.save_model`, `SAE.load_from_disk`): `cfg.json` and `sae_weights.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.linalg import vector_norm

from harness.errors import UserError
from harness.training.interchange.files import CONFIG, field, read_config, read_weights, write_files
from harness.training.interchange.plain import PlainSAE, from_plain, plain, why_not
from harness.training.sae_files import SAEConfig

NAME, PACKAGE = "sae_lens", "SAELens"
WEIGHTS = "sae_weights.safetensors"
FILES = WEIGHTS, CONFIG
VERSION = "6.0.0"  # since which the configuration looks like this
NAMES = {"encoder": "W_enc", "bias": "b_enc", "decoder": "W_dec", "bias_out": "b_dec"}
ARCHITECTURES = {  # theirs: what selects, and whether it is a transcoder
    "topk": ("topk", False),
    "standard": ("relu", False),
    "jumprelu": ("jumprelu", False),
    "transcoder": ("relu", True),
    "jumprelu_transcoder": ("jumprelu", True),
}


def is_one(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file()


def refusal(config: SAEConfig) -> str | None:
    """Why an SAE cannot be written in this format; None if it can."""
    if config.recipe.sparsifier == "topk" and config.transcoder:
        return f"sparsifier: topk: {PACKAGE} has no top-k transcoders"
    return why_not(config)


def write(folder: Path, config: SAEConfig, weights: Mapping[str, Tensor]) -> None:
    """Write both files; `refusal` says of which SAEs that is possible."""
    sae = plain(config, weights)
    names = {kind: name for name, kind in ARCHITECTURES.items()}
    tensors = {"W_enc": sae.encoder.T, "b_enc": sae.bias, "W_dec": sae.decoder, "b_dec": sae.bias_out}
    more: dict[str, Any] = {"d_out": sae.decoder.shape[1]} if sae.transcoder else {}
    if sae.k is not None:
        more |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    if sae.threshold is not None:
        tensors["threshold"] = sae.threshold
    record = {
        "architecture": names[sae.sparsifier, sae.transcoder],
        "d_in": sae.encoder.shape[1],
        "d_sae": len(sae.encoder),
        **more,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": _metadata(config),
    }
    write_files(folder, record, WEIGHTS, tensors)


def _metadata(config: SAEConfig) -> dict[str, Any]:
    """Hooks are named as in transformers, which is what the class of the model is there for."""
    said = {
        "hook_name": config.hook,
        "hook_name_out": config.target_hook,
        "model_class_name": "AutoModelForCausalLM",
        "trained_by": config.package if config.harness is None else f"{config.package} {config.harness}",
        "source": config.source,
        "training_tokens": config.tokens or None,
    }
    return {"sae_lens_version": VERSION, **{name: value for name, value in said.items() if value is not None}}


def read(folder: Path) -> tuple[SAEConfig, dict[str, Tensor]]:
    """What `sae_files.read_folder` gives, of an SAE that SAELens or `write` has written. Raises UserError."""
    path, config = folder / CONFIG, read_config(folder)
    architecture = field(config, folder, "architecture", str, "standard")
    is_old_topk = config.get("activation_fn_str") == "topk"  # before SAELens 6
    if is_old_topk and architecture == "standard":
        architecture = "topk"
        config = {**config, "k": (config.get("activation_fn_kwargs") or {}).get("k")}
    if architecture not in ARCHITECTURES:
        expected = f"expected one of {', '.join(ARCHITECTURES)}"
        raise UserError(f"{path}: architecture: {expected}, got {architecture!r}")
    for key, plain_value in (("normalize_activations", "none"), ("finetuning_scaling_factor", False)):
        if (config.get(key) or plain_value) != plain_value:
            raise UserError(f"{path}: {key}: expected {plain_value!r}, got {config[key]!r}")
    sparsifier, transcoder = ARCHITECTURES[architecture]
    names = NAMES | ({"threshold": "threshold"} if sparsifier == "jumprelu" else {})
    tensors = read_weights(folder / WEIGHTS, names)
    tensors["encoder"] = tensors["encoder"].mT
    k = field(config, folder, "k", int) if sparsifier == "topk" else None
    if sparsifier == "topk" and field(config, folder, "rescale_acts_by_decoder_norm", bool, False):
        norm = vector_norm(tensors["decoder"], dim=1)
        tensors["encoder"] *= norm[:, None]
        tensors["bias"] *= norm
        tensors["decoder"] /= norm[:, None]
    subtract = not transcoder and field(config, folder, "apply_b_dec_to_input", bool, True)
    sae = PlainSAE(**tensors, sparsifier=sparsifier, k=k, subtract=subtract, transcoder=transcoder)
    return from_plain(sae, PACKAGE, str(folder / WEIGHTS))
