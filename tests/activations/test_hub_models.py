"""Models of the hub: from its cache, at the commit that is recorded; what the hub refuses is one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from harness.activations.capture_windows import capture_windows
from harness.activations.stream_file import StreamFile
from harness.activations.windows import WindowMaker
from harness.errors import UserError

from .pretrained_models import save_model, save_text, source_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model, `somebody/tiny`, and no hub behind it."""
    repository = tmp_path / "cache/models--somebody--tiny"
    save_model("llama", repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return repository


def test_the_commit_is_recorded_and_used_from_then_on(hub: Path, tmp_path: Path) -> None:
    text = save_text(tmp_path / "text.jsonl")
    source = source_file(tmp_path, Path("somebody/tiny"), text, "model.layers.1")
    assert source.stored.width == 16  # from its config.json
    manifest = capture_windows(source, tmp_path / "out")
    assert (manifest["model"], manifest["revision"]) == ("somebody/tiny", COMMIT)
    assert StreamFile.read(tmp_path / "out").model.revision == COMMIT
    (hub / "refs/main").write_text("f" * 40)  # the repository has gone on
    assert len(WindowMaker.open(tmp_path / "out", torch.device("cpu")).window("train", 0)[0]) == 256


def test_weights_of_another_format_are_not_loaded(hub: Path, tmp_path: Path) -> None:
    weights = hub / "snapshots" / COMMIT / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    source = source_file(tmp_path, Path("somebody/tiny"), save_text(tmp_path / "text.jsonl"), "model.layers.1")
    with pytest.raises(UserError, match=r"2: model\.name: expected a model with weights in \*\.safetensors; some"):
        capture_windows(source, tmp_path / "out")


def test_no_hub_and_not_in_its_cache(hub: Path, tmp_path: Path) -> None:
    shutil.rmtree(hub)
    source = source_file(tmp_path, Path("somebody/tiny"), save_text(tmp_path / "text.jsonl"), "h", width=16)
    line = "no folder 'somebody/tiny' here, the hub cannot be reached, and the model is not in its cache"
    with pytest.raises(UserError) as error:
        capture_windows(source, tmp_path / "out")
    assert str(error.value) == f"{source.path}:2: model.name: {line}"


RESPONSE = httpx2.Response(404, request=httpx2.Request("GET", "https://hub"))
REFUSALS: list[tuple[Exception, str]] = [
    (
        errors.GatedRepoError("gated", response=RESPONSE),
        "asks that its terms are accepted on the hub; ",
    ),
    (
        errors.RepositoryNotFoundError("no", response=RESPONSE),
        "no folder and no repository on the hub 'some",
    ),
    (errors.RevisionNotFoundError("no", response=RESPONSE), "somebody/tiny has no revision 'v2'"),
    (
        errors.HfHubHTTPError("500 Server Error\nmore", response=RESPONSE),
        "not be downloaded: 500 Server Error",
    ),
    (httpx2.ReadTimeout("the read timed out"), "not be downloaded: the read timed out"),
    (OSError(28, "No space left on device"), "could not be downloaded: [Errno 28] No space left on device"),
]


@pytest.mark.parametrize(("refusal", "line"), REFUSALS, ids=lambda value: type(value).__name__)
def test_what_the_hub_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception, line: str
) -> None:
    def refuse(*_: Any, **given: Any) -> str:
        assert given["revision"] == "v2"
        raise refusal

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    source = source_file(
        tmp_path, Path("somebody/tiny"), save_text(tmp_path / "t.jsonl"), "h", ("{name", "{revision: v2, name")
    )
    with pytest.raises(UserError) as error:
        source.stored  # noqa: B018 - its width is asked for
    assert line in str(error.value)
    assert "\n" not in str(error.value)
