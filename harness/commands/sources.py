"""From a source file to its activations."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.command import workspace_of

if TYPE_CHECKING:
    from harness.study.source import Source, TextSource


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

    stats = build_corpus(source, SourceFolders(source, workspace_of(options).data).corpus)
    train, held_out = (stats["splits"][split]["tokens"] for split in ("train", "held_out"))
    console.print(f"corpus {source.name}: {train:,} + {held_out:,} tokens")


def language_model(options: Namespace, console: Console) -> None:
    source = _text_source(options)

    from harness.activations.language_model import train_language_model
    from harness.study.source import SourceFolders

    folders = SourceFolders(source, workspace_of(options).data)
    metrics = train_language_model(source, folders.corpus, folders.language_model)
    results = workspace_of(options).results(source.name)  # where DVC compares them with the commit's
    results.mkdir(parents=True, exist_ok=True)
    (results / "language_model.json").write_text(json.dumps(metrics, indent=1) + "\n")
    console.print(
        f"language model {source.name}: held-out loss {metrics['held_out_loss']:.3f} nats a token "
        f"(bigram {metrics['bigram_held_out_loss']:.3f})",
    )


def activations(options: Namespace, console: Console) -> None:
    from harness.study.source import SourceFolders, SyntheticSource, load_source

    source = load_source(options.source)
    folders = SourceFolders(source, workspace_of(options).data)
    if isinstance(source, SyntheticSource):
        from harness.activations.synthetic import make_synthetic

        manifest = make_synthetic(source, folders.activations)
        aside = f"{source.synthetic.features:,} known features"
    else:
        from harness.activations.capture import capture_activations

        manifest = capture_activations(source, folders.corpus, folders.language_model, folders.activations)
        aside = f"{sum(manifest['special_left_out'].values()):,} special ones left out"
    tokens = manifest["tokens"]
    console.print(
        f"activations {source.name} at {source.hook}: "
        f"{tokens['train']:,} + {tokens['held_out']:,} tokens ({aside})"
    )


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
