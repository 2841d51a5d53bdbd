"""Who judges latents, as a study file says it: `interpretability.judge`."""

import pytest

from harness.errors import UserError
from harness.study.interpretability import read_interpretability, settings_of
from harness.yaml_file import read_yaml

URL = "kind: endpoint, model: small, url: 'http://localhost:8000/v1'"


def read(folder, judge):
    path = folder / "study.yaml"
    path.write_text(f"interpretability:\n  judge: {judge}\n")
    file = read_yaml(path)
    return read_interpretability(file, file.data["interpretability"])


@pytest.mark.parametrize("judge", ["{}", "{kind: rules}"])
def test_rules_judge_where_nothing_else_is_asked_for(tmp_path, judge):
    assert read(tmp_path, judge).judge.kind == "rules"


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("endpoint", "judge: expected keys and values, such as 'kind: endpoint', got 'endpoint'"),
        ("null", "judge: expected keys and values, such as 'kind: endpoint', got nothing"),
        ("{kind: oracle}", "judge.kind: expected one of rules, endpoint, got 'oracle'"),
        ("{kind: [endpoint]}", "judge.kind: expected one of rules, endpoint, got"),
        ("{kind: rules, url: x}", "judge.url: unknown key"),
        ("{kind: endpoint, model: small}", "judge.url: this key is missing"),
        (f"{{{URL}, modle: x}}", "judge.modle: unknown key; did you mean 'model'?"),
        (f"{{{URL}, concurrency: 0}}", "judge.concurrency: expected at least 1, got 0"),
        (f"{{{URL}, temperature: 3}}", "judge.temperature: expected at most 2, got 3"),
        (f"{{{URL}, key_variable: sk-123}}", "judge.key_variable: expected the name of a variable in capital"),
        (f"{{{URL}, key_variable: sk_123}}", "judge.key_variable: expected the name of a variable in capital"),
        (
            f"{{{URL}, parameters: {{messages: []}}}}",
            "judge.parameters.messages: expected a field that is not set",
        ),
        (f"{{{URL}, budget: {{call: 1}}}}", "judge.budget.call: unknown key; did you mean 'calls'?"),
        (f"{{{URL}, budget: {{price: 1}}}}", "judge.budget.price: expected 'prices' of the judge, too"),
        (f"{{{URL}, prices: {{input: 1}}}}", "judge.prices.output: this key is missing"),
    ],
)
def test_a_mistake_gets_its_line(tmp_path, judge, said):
    with pytest.raises(UserError) as failure:
        read(tmp_path, judge)
    assert f"study.yaml:2: interpretability.{said}" in str(failure.value)
    assert "123" not in str(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://localhost/v1",
        "http://",
        "http://localhost:port/v1",
        "http://user:word@localhost/v1",
        "http://user@localhost/v1",
        "http://localhost/v1?key=1",
        "http://localhost/v1#key",
        "http://localhost/v1/chat/completions",
        " http://localhost/v1",
        "http://[::1/v1",
    ],
)
def test_a_url_that_is_none_or_has_credentials_is_refused(tmp_path, url):
    with pytest.raises(UserError, match=r"study.yaml:2: interpretability.judge.url: expected ") as failure:
        read(tmp_path, f"{{kind: endpoint, model: small, url: '{url}'}}")
    assert "word@" not in str(failure.value)


@pytest.mark.parametrize("url", ["http://localhost:11434/v1", "https://api.example.org/v1/", "http://[::1]:8000"])
def test_urls(tmp_path, url):
    assert read(tmp_path, f"{{kind: endpoint, model: small, url: '{url}'}}").judge.url == url


def test_what_decides_no_answer_is_no_part_of_the_settings(tmp_path):
    plain = read(tmp_path, f"{{{URL}}}")
    more = read(
        tmp_path,
        f"{{{URL}, key_variable: KEY, concurrency: 3, timeout: 1, retries: 0, prices: {{input: 1, output: 2}}, "
        "budget: {calls: 3}}",
    )
    assert settings_of(plain) == settings_of(more)
    assert settings_of(plain) != settings_of(read(tmp_path, f"{{{URL}, repetitions: 2}}"))
