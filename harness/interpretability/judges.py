"""The judge that a study asks for."""

from __future__ import annotations

from pathlib import Path

from harness.interpretability.endpoint.asking import CALLS, Asking
from harness.interpretability.endpoint.judge import EndpointJudge
from harness.interpretability.judging import Judge
from harness.interpretability.rule_judge import RuleJudge
from harness.interpretability.text import Text
from harness.interpretability.vocabulary import token_texts
from harness.study.judges import Endpoint, Rules


def judge_of(asked: Rules | Endpoint, text: Text, folder: Path) -> Judge:
    """folder: that of the study's latents (`Workspace.latents`), where an endpoint's answers are kept."""
    if isinstance(asked, Endpoint):
        return EndpointJudge(asked, text.tokenizer, Asking(asked, folder / CALLS))
    return RuleJudge(lambda token: token_texts(text.tokenizer, [token])[0], text.ids)
