"""`harness push`, against a hub on this machine."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.training.interchange.formats import write_sae
from tests.hub import TOKEN, Hub
from tests.training.exported import trained

REPOSITORY = "owner/sae"
Push = Callable[..., tuple[int, str]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    one = Hub()
    yield one
    one.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    """As `harness export` makes it, and a file beside that nobody means to publish."""
    sae = trained()
    for name in ("sae_lens", "harness"):
        write_sae(tmp_path / "out" / name, sae.config, sae.sae.state_dict(), name)
        (tmp_path / "out" / name / "README.md").write_text("card")
    (tmp_path / "out" / "README.md").write_text("list")
    for place in ("out", "out/harness"):
        (tmp_path / place / ".env").write_text("PASSWORD=geheim")
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No token but the one in the environment."""
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def push(monkeypatch, capsys) -> Push:
    """Exit code and output of the command."""

    def push(hub: Hub | None, folder: Path, *options: str) -> tuple[int, str]:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url if hub else "http://127.0.0.1:9")
        code = 0
        try:
            main(["push", str(folder), REPOSITORY, *options])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert TOKEN not in said
        assert "Traceback" not in said
        return code, said.strip()

    return push


def test_a_folder_becomes_a_private_repository_of_its_saes_and_cards_alone(hub, folder, push):
    code, said = push(hub, folder)
    assert (code, said) == (0, f"{hub.url}/{REPOSITORY}: 7 files (private)")
    assert hub.private == {REPOSITORY: True}
    assert sorted(hub.files[REPOSITORY]) == [
        "README.md",
        "harness/README.md",
        "harness/config.json",
        "harness/sae.safetensors",
        "sae_lens/README.md",
        "sae_lens/cfg.json",
        "sae_lens/sae_weights.safetensors",
    ]
    for path, content in hub.files[REPOSITORY].items():
        assert content == (folder / path).read_bytes()


def test_it_is_public_and_updated_only_where_that_is_said(hub, folder, push):
    assert push(hub, folder / "sae_lens", "--public")[0] == 0
    assert hub.private == {REPOSITORY: False}
    before = dict(hub.files[REPOSITORY])
    assert sorted(before) == ["README.md", "cfg.json", "sae_weights.safetensors"]
    (folder / "sae_lens" / "README.md").write_text("new card")
    code, said = push(hub, folder / "sae_lens")
    assert (code, said) == (
        2,
        f"harness: {REPOSITORY}: it exists already: choose another name, or --update to add a commit to it",
    )
    code, said = push(hub, folder / "sae_lens", "--update")
    assert (code, said) == (2, f"harness: {REPOSITORY}: it is public: to add to it all the same, say --public")
    assert hub.files[REPOSITORY] == before
    assert push(hub, folder / "sae_lens", "--update", "--public")[0] == 0
    assert hub.files[REPOSITORY]["README.md"] == b"new card"
    hub.private[REPOSITORY] = True
    assert "--public: it is private" in push(hub, folder / "sae_lens", "--update", "--public")[1]


def test_what_the_hub_refuses_is_one_line(hub, folder, push, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_wrong")
        said = f"harness: {REPOSITORY}: the hub does not accept the token: hf auth login, or HF_TOKEN"
        assert push(hub, folder) == (2, said)
    assert push(hub, folder, "--update")[1] == (
        f"harness: {REPOSITORY}: there is no such repository, or the token may not see it"
    )
    hub.refuse_commits = 400
    code, said = push(hub, folder)
    assert code == 2
    assert said.splitlines() == [said]
    assert said.endswith("*** ; the repository is there now: to try again, add --update".replace(" ;", ";"))


def test_without_token_hub_or_sae_it_is_one_line(hub, folder, push, monkeypatch):
    said = "harness: expected a token of the Hugging Face hub: hf auth login, or HF_TOKEN"
    with monkeypatch.context() as patch:
        patch.delenv("HF_TOKEN")
        assert push(hub, folder) == (2, said)
    (folder / "README.md").unlink()
    code, said = push(hub, folder)
    assert (code, said) == (
        2, f"harness: {folder}: expected README.md and an SAE, as `harness export` writes them",
    )  # fmt: skip
    assert hub.asked == []


def test_a_hub_that_cannot_be_reached_is_one_line(folder, push):
    code, said = push(None, folder)
    assert code == 2
    assert said.startswith(f"harness: {REPOSITORY}: ")
    assert said.splitlines() == [said]


@pytest.mark.parametrize("offline", [None, "1"])
def test_the_command_is_online_unless_the_environment_says_otherwise(offline, hub, folder):
    """In a process of its own: the hub's client reads the environment once."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder.parent / "home"), "HF_TOKEN": TOKEN}
    environment |= {} if offline is None else {"HF_HUB_OFFLINE": offline}
    command = [sys.executable, "-m", "harness", "push", str(folder / "harness"), REPOSITORY]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if offline is None:
        assert (ended.returncode, ended.stderr) == (0, "")
        assert hub.private == {REPOSITORY: True}
    else:
        assert ended.returncode == 2
        assert ended.stderr == f"harness: {REPOSITORY}: HF_HUB_OFFLINE is set: unset it to push\n"
        assert hub.asked == []
