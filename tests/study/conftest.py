from pathlib import Path

import pytest

SOURCE = """
kind: docstrings
corpus: {packages: [rich]}
language_model: {layers: 1, width: 16, heads: 2, context: 16, tokens: 1000, batch: 4, lr: 1e-3}
activations: {hook: transformer.h.0, tokens: 1000, held_out_tokens: 500}
"""

STUDY = """
question: What helps?
source: source.yaml
recipe:
  latents: 64
  k: 4
  tokens: 1000
  batch: 100
axes:
  layers: [none, dense 2-2]
  penalty: [0, 0.1]
  optimizer: [adam, muon]
  lr:
    tune: true
    when: {optimizer: {adam: [1e-3, 4e-3], muon: [1e-2]}}
seeds: [0, 1]
"""


@pytest.fixture
def write_study(tmp_path):
    """Writes a study file, with replacements in the text, and returns its path."""

    def write(*replacements: tuple[str, str], name: str = "study.yaml") -> Path:
        (tmp_path / "source.yaml").write_text(SOURCE)
        text = STUDY.lstrip()
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
