"""Reading a source file: the union of all kinds of sources, told apart by the key `kind`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field

from harness.sources.docstrings import Docstrings
from harness.sources.pretrained import Pretrained
from harness.sources.source import Source
from harness.sources.synthetic import Synthetic
from harness.yaml_file import YamlFile, file_name, near, read_yaml, shown

AnySource = Annotated[Docstrings | Pretrained | Synthetic, Field(discriminator="kind")]

KINDS: dict[str, type[Source]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in get_args(get_args(AnySource)[0])
}
OF_THE_FILE = {"name", "path"}  # fields of a source that are no keys of its file


def load_source(path: Path) -> Source:
    """Read and validate a source file. Raises UserError naming file, key and what was expected."""
    file = read_yaml(path)
    kind = _kind(file)
    _check_keys(file, kind)
    source: Source = file.check(KINDS[kind], {**file.mapping(), "name": file_name(file), "path": path})
    return source


def keys_of(kind: str) -> list[str]:
    """The keys that a source file of this kind may have besides `kind`."""
    return [key for key in KINDS[kind].model_fields if key not in {"kind", *OF_THE_FILE}]


def _kind(file: YamlFile) -> str:
    """What the file says under `kind`. Raises UserError if it says nothing there, or no kind that there is."""
    keys, expected = file.mapping(), f"expected one of {', '.join(KINDS)}"
    if "kind" not in keys:
        raise file.error(("kind",), f"this key is missing; {expected}; {_what_to_add(file)}")
    kind = keys["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise file.error(("kind",), f"{expected}, got {shown(kind)}")
    return kind


def _what_to_add(file: YamlFile) -> str:
    """The line that makes it the kind which most of its keys belong to."""
    fitting = {kind: len(file.mapping().keys() & set(keys_of(kind))) for kind in KINDS}
    best = max(fitting, key=lambda kind: fitting[kind])
    return f"its other keys are those of 'kind: {best}'" if fitting[best] else f"add it, as in 'kind: {best}'"


def _check_keys(file: YamlFile, kind: str) -> None:
    """Raise UserError for the first key that this kind does not have."""
    own = keys_of(kind)
    for key in file.mapping():
        if key in own or key == "kind":
            continue
        if others := [f"'kind: {other}'" for other in KINDS if key in keys_of(other)]:
            hint = f"'kind: {kind}' has no such key, only {' and '.join(others)} has"
        else:
            hint = "unknown key" + ("; a source is named by its file" if key == "name" else near(key, own))
        raise file.error((key,), hint)
