"""The architectures: what can be written in `layers`. Adding one is an entry here that gives its `Layers`.

Sizes, memory and FLOPs follow from these. One that `build_sae` cannot build brings a function of its own.
"""

from __future__ import annotations

import re

from harness.errors import SettingError
from harness.study.catalogue.layers import Layers
from harness.study.catalogue.specs import ArchitectureSpec, registry

BUILD = "harness.sae.model:build_sae"


def _none(rest: str) -> Layers | None:
    return None if rest else Layers()


def _widths(rest: str) -> tuple[float, ...]:
    """`2-4-2` as numbers; none where it is something else, or one of them is 0."""
    if not re.fullmatch(r"\d+(\.\d+)?(-\d+(\.\d+)?)*", rest):
        return ()
    widths = tuple(float(width) for width in rest.split("-"))
    return () if 0.0 in widths else widths


def _dense(rest: str) -> Layers | None:
    widths = _widths(rest)
    half = len(widths) // 2
    return Layers(encoder=widths[:half], decoder=widths[half:]) if widths and len(widths) % 2 == 0 else None


def _dense_encoder(rest: str) -> Layers | None:
    widths = _widths(rest)
    return Layers(encoder=widths) if widths else None


def _sparse(rest: str) -> Layers | None:
    if match := re.fullmatch(r"([1-9]\d?)( each)?", rest):
        depth = int(match[1])
        return Layers(stack=(1.0 if match[2] else 1 / depth,) * depth)
    if re.fullmatch(r"[1-9]\d?(-[1-9]\d?)+", rest):
        parts = [int(part) for part in rest.split("-")]
        return Layers(stack=tuple(part / sum(parts) for part in parts))
    return None


ARCHITECTURES = registry(
    [
        ArchitectureSpec(
            name="none",
            doc="one sparse layer and no others: the shallow SAE",
            build=BUILD,
            notation="'none'",
            examples=("none",),
            parse=_none,
        ),
        ArchitectureSpec(
            name="dense",
            doc="dense layers before and after the sparse one, `dense 2-4-4-2`, encoder first",
            build=BUILD,
            notation="'dense W-W' (as many widths after the sparse layer as before it)",
            examples=("dense 2-2", "dense 1-3-2-1"),
            parse=_dense,
        ),
        ArchitectureSpec(
            name="dense_encoder",
            doc="dense layers before the sparse one only",
            build=BUILD,
            notation="'dense_encoder W'",
            examples=("dense_encoder 2",),
            parse=_dense_encoder,
        ),
        ArchitectureSpec(
            name="sparse",
            doc="stacked sparse layers that share latents and k: evenly, `sparse 3`; in proportions, "
            "`sparse 4-2-1`; or each with all of them, `sparse 3 each`",
            build=BUILD,
            notation="'sparse DEPTH', 'sparse DEPTH each' or 'sparse PART-PART'",
            examples=("sparse 3", "sparse 4-2-1", "sparse 2 each"),
            parse=_sparse,
        ),
    ]
)


def architecture(text: str) -> ArchitectureSpec:
    """The one that `layers: <text>` names. Raises SettingError."""
    name = text.partition(" ")[0]
    if name not in ARCHITECTURES:
        raise _refused(text)
    return ARCHITECTURES[name]


def parse_layers(text: str) -> Layers:
    """What `layers: <text>` stands for. Raises SettingError."""
    layers = architecture(text).parse(text.partition(" ")[2])
    if layers is None or text != text.rstrip():
        raise _refused(text)
    return layers


def _refused(text: str) -> SettingError:
    return SettingError("layers", ", ".join(spec.notation for spec in ARCHITECTURES.values()), text)
