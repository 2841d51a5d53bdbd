"""From a source file to its activations."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.commands.command import workspace_of
from harness.commands.paths import check_files, check_writable
from harness.files import write_json

if TYPE_CHECKING:
    from harness.study.source import Source, SourceFolders, TextSource


def _text_source(options: Namespace) -> TextSource:
    from harness.study.source import TextSource, load_source, source_error

    source = load_source(options.source)
    if not isinstance(source, TextSource):
        message = f"expected a source with text; this one needs only: harness activations {source.path}"
        raise source_error(source, ("synthetic",), message)
    return source


def corpus(options: Namespace, console: Console) -> None:
    source = _text_source(options)  # before anything slow is imported

    from harness.activations.corpus import build_corpus
    from harness.study.source import SourceFolders

    out = SourceFolders(source, workspace_of(options).data).corpus
    check_writable(out.parent)
    with _or_made_meanwhile(console):
        stats = build_corpus(source, out)
        train, held_out = (stats["splits"][split]["tokens"] for split in ("train", "held_out"))
        console.print(f"corpus {source.name}: {train:,} + {held_out:,} tokens")


def language_model(options: Namespace, console: Console) -> None:
    source = _text_source(options)

    from harness.activations.language_model import train_language_model
    from harness.study.source import SourceFolders

    folders = SourceFolders(source, workspace_of(options).data)
    results = workspace_of(options).results(source.name)  # where DVC compares them with the commit's
    check_writable(folders.language_model.parent, results)
    check_files(results / "language_model.json")
    with _or_made_meanwhile(console):
        metrics = train_language_model(source, folders.corpus, folders.language_model)
        write_json(results / "language_model.json", metrics)
        console.print(
            f"language model {source.name}: held-out loss {metrics['held_out_loss']:.3f} nats per token "
            f"(bigram {metrics['bigram_held_out_loss']:.3f})",
        )


def activations(options: Namespace, console: Console) -> None:
    from harness.study.source import SourceFolders, load_source

    source = load_source(options.source)
    folders = SourceFolders(source, workspace_of(options).data)
    check_writable(folders.activations.parent)
    with _or_made_meanwhile(console):
        manifest, aside = _make_activations(source, folders)
        tokens = manifest["tokens"]
        console.print(
            f"activations {source.name} at {source.hook}: "
            f"{tokens['train']:,} + {tokens['held_out']:,} tokens ({aside})"
        )


def _make_activations(source: Source, folders: SourceFolders) -> tuple[dict[str, Any], str]:
    """Their manifest, and what else there is to say about them."""
    from harness.study.source import SyntheticSource

    if isinstance(source, SyntheticSource):
        from harness.activations.synthetic import make_synthetic

        return make_synthetic(source, folders.activations), f"{source.synthetic.features:,} known features"
    from harness.activations.capture import capture_activations

    manifest = capture_activations(source, folders.corpus, folders.language_model, folders.activations)
    return manifest, f"{sum(manifest['special_left_out'].values()):,} special ones left out"


@contextmanager
def _or_made_meanwhile(console: Console) -> Iterator[None]:
    """Say so where another process has done the same work."""
    from harness.activations.folders import MadeMeanwhile

    try:
        yield
    except MadeMeanwhile as made:
        console.print(str(made), soft_wrap=True)


def prepare(source: Source, options: Namespace, console: Console) -> None:
    """Make what is missing of a source, so that a study can be run without DVC."""
    from harness.study.source import SourceFolders, TextSource

    folders = SourceFolders(source, workspace_of(options).data)
    if folders.activations.exists():
        return
    step_options = Namespace(root=options.root, source=source.path)
    if not isinstance(source, TextSource):
        activations(step_options, console)
        return
    for folder, step in (
        (folders.corpus, corpus),
        (folders.language_model, language_model),
        (folders.activations, activations),
    ):
        if not folder.exists():
            step(step_options, console)
