"""A language model behind an endpoint: what is sent, what may go wrong, what it costs; nothing is sent twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from harness import backoff
from harness.errors import UserError
from harness.interpretability.answers import ask
from harness.interpretability.endpoint.asking import Asking
from harness.interpretability.endpoint.calls import Bill, Calls, total
from harness.interpretability.endpoint.client import Client
from harness.interpretability.endpoint.judge import EndpointJudge
from harness.interpretability.endpoint.preview import DryRun, at_most
from harness.interpretability.endpoint.prompts import Prompt
from harness.interpretability.examples import Drawing
from harness.interpretability.scores import scores_of_latents
from harness.interpretability.windows import windows_of
from harness.study.interpretability import Interpretability
from harness.study.judges import Prices
from tests.interpretability.judged import (
    LATENTS,
    Vocabulary,
    ask_all,
    endpoint,
    evidence,
    judge,
    kept,
    questions,
    wait_until_kept,
)
from tests.interpretability.planted import planted
from tests.interpretability.server import PATH, Server

PROMPT = Prompt("They stand between << and >>, which are not part of the text: have in common", '1 "a <<b>>"')
SAID = "the text 'b', as in 1 excerpts"
KEY = "sk-very-secret/+key"


@pytest.fixture
def server():
    with Server() as found:
        yield found


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST", 0.01)


def complete(asked, prompt=PROMPT):
    client = Client(asked)
    try:
        return client.complete(prompt)
    finally:
        client.close()


def test_a_request_is_what_the_protocol_asks_for(server, monkeypatch):
    server.key = KEY
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")
    asked = endpoint(
        server.url + "/", key_variable="JUDGE_KEY", temperature=0.5, parameters={"max_tokens": 50, "seed": 1}
    )
    assert complete(asked).text == SAID
    [(path, headers, body)] = server.requests
    assert path == PATH
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "model": "small",
        "messages": [{"role": "system", "content": PROMPT.system}, {"role": "user", "content": PROMPT.user}],
        "temperature": 0.5,
        "max_tokens": 50,
        "seed": 1,
    }


def test_what_is_not_asked_for_is_not_sent(server):
    complete(endpoint(server.url, temperature=None))
    [(_, headers, body)] = server.requests
    assert "Authorization" not in headers
    assert set(json.loads(body)) == {"model", "messages"}


def test_an_endpoint_on_this_machine_is_asked_without_a_proxy(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing listens
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert complete(endpoint(server.url, retries=0)).text == SAID


@pytest.mark.parametrize(
    "fault",
    [
        "status 500",
        "status 503 0",
        "status 429 nonsense",
        "status 408",
        "drop",
        "cut",
        "silence 0.5",
        "body <html>",
        'body {"choices": []}',
        'body {"choices": [{"message": {"content": 3}}]}',
        "body []",
    ],
)
def test_what_may_pass_is_tried_again(server, fault):
    server.faults.extend([fault] * 2)
    assert complete(endpoint(server.url, timeout=0.2)).text == SAID
    assert len(server.requests) == 3


def test_the_endpoint_says_when_to_come_back_and_all_calls_wait(server):
    server.faults.append("status 429 1")
    asked = endpoint(server.url, concurrency=1)
    client = Client(asked)
    threads = [threading.Thread(target=client.complete, args=(PROMPT,)) for _ in range(2)]
    threads[0].start()
    while not server.times:
        time.sleep(0.01)
    time.sleep(0.05)
    threads[1].start()
    for thread in threads:
        thread.join()
    client.close()
    assert [when - server.times[0] >= 0.99 for when in server.times] == [False, True, True]


def test_an_endpoint_that_asks_for_an_hour_ends_the_run(server):
    server.faults.append("status 429 3600")
    with pytest.raises(
        UserError, match="status 429: 'not now'; it asks to come back in 3600 seconds; run the same"
    ):
        complete(endpoint(server.url))


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("status 500", "status 500: 'not now'"),
        ("drop", "no answer: "),
        ("body <html>", "expected a chat completion"),
    ],
)
def test_what_does_not_pass_gets_one_line(server, fault, line):
    server.faults.extend([fault] * 3)
    with pytest.raises(UserError, match=line) as failure:
        complete(endpoint(server.url, retries=2))
    assert "\n" not in str(failure.value)
    assert len(server.requests) == 3


def test_a_server_that_is_not_there_gets_one_line():
    with Server() as gone:
        url = gone.url
    with pytest.raises(UserError, match="/v1/chat/completions: no answer: ConnectError"):
        complete(endpoint(url, retries=1))


@pytest.mark.parametrize("fault", ["status 400", "status 404", "status 422", "redirect http://127.0.0.1:1/v1"])
def test_what_cannot_pass_is_not_tried_again(server, fault):
    server.faults.append(fault)
    with pytest.raises(UserError, match="status"):
        complete(endpoint(server.url))
    assert len(server.requests) == 1


def test_no_key_is_shown_or_kept(server, monkeypatch, tmp_path):
    server.key = "another"
    monkeypatch.setenv("JUDGE_KEY", KEY)
    asked = endpoint(server.url, key_variable="JUDGE_KEY")
    with pytest.raises(UserError, match=r"status 401: 'wrong key: Bearer \*\*\*'"):
        complete(asked)
    server.key = KEY
    one = judge(asked, tmp_path / "calls.db")
    one.explain([evidence(0)])
    kept = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(
        KEY.encode() in content for content in [*kept, repr(one.identity).encode(), repr(asked).encode()]
    )


@pytest.mark.parametrize(("value", "got"), [(None, "nothing"), (" ", "nothing"), ("sk\nx", "something else")])
def test_a_key_that_is_missing_or_broken_gets_one_line(server, monkeypatch, value, got):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if value:
        monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(UserError, match=rf"key_variable: expected a key .* JUDGE_KEY, got {got}$"):
        complete(endpoint(server.url, key_variable="JUDGE_KEY"))
    assert not server.requests


@pytest.mark.parametrize(
    "fault",
    [
        "nothing",
        "say Sure! 1, 0, 1.",
        "uncounted [1, 0]",
        "body "
        + json.dumps(
            {"choices": [{"message": {"content": None}}], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}
        ),
    ],
)
def test_answers_without_the_form_are_invalid_and_not_asked_again(server, tmp_path, fault):
    one = judge(endpoint(server.url), tmp_path / "calls.db")
    [explanation] = one.explain([evidence(0)])
    detection = questions(0, explanation)[:1]
    server.faults.extend([fault] * 2)
    for _ in range(2):
        assert one.answer(detection) == [(None,) * 12]
    assert len(server.requests) == 1 + 2  # 12 excerpts are two calls


def test_without_an_explanation_nothing_is_asked(server, tmp_path):
    one = judge(endpoint(server.url), tmp_path / "calls.db")
    server.faults.append("nothing")
    [explanation] = one.explain([evidence(0)])
    detection, fuzzing, intruder = one.answer(questions(0, explanation))
    assert (detection, fuzzing) == ((None,) * 12, (None,) * 6)
    assert sum(each is True for each in intruder) == 1
    assert len(server.requests) == 2


def test_the_judge_tells_words_apart(server, tmp_path):
    [answers] = ask_all(judge(endpoint(server.url), tmp_path / "calls.db"))
    for number in range(LATENTS):
        detection, fuzzing, _ = answers[3 * number : 3 * number + 3]
        assert detection == [True] * 6 + [False] * 6
        assert fuzzing == [True, False] * 3


def test_what_is_asked_does_not_depend_on_what_else_is(server, tmp_path):
    ask_all(judge(endpoint(server.url), tmp_path / "calls.db"))
    made = set(server.answered)
    for latent in reversed(range(LATENTS)):
        one = judge(endpoint(server.url), tmp_path / f"{latent}.db")
        one.answer(questions(latent, one.explain([evidence(latent)])[0])[::-1])
    assert set(server.answered) == made


def test_excerpts_are_shuffled_and_split_evenly(server, tmp_path):
    one = judge(endpoint(server.url, per_question=5), tmp_path / "calls.db")
    [explanation] = one.explain([evidence(0)])
    one.answer(questions(0, explanation)[:1])
    one.answer(questions(0, explanation)[:1], 1)
    shown = [
        json.loads(body)["messages"][1]["content"].split("\n\n")[1].splitlines() for body in server.answered[1:]
    ]
    assert [len(lines) for lines in shown] == [4] * 6
    rivers = [["river" in line for line in lines] for lines in shown]
    assert any(0 < sum(some) < 4 for some in rivers)
    assert rivers[:3] != rivers[3:]


def test_calls_are_made_at_once_but_not_too_many(server, tmp_path):
    server.hold_after = 0

    def release():
        while server.at_once < 3:
            time.sleep(0.01)
        server.released.set()

    threading.Thread(target=release, daemon=True).start()
    ask_all(judge(endpoint(server.url, concurrency=3), tmp_path / "calls.db"))
    assert server.most_at_once == 3


def test_killed_in_the_middle_it_goes_on_and_no_call_is_answered_twice(tmp_path):
    settings = {"kind": "endpoint", "model": "small", "repetitions": 2, "concurrency": 4}
    with Server() as whole:
        expected = ask_all(judge(endpoint(whole.url, repetitions=2, concurrency=4), tmp_path / "whole.db"), 2)
        calls = len(whole.answered)
    with Server(hold_after=calls // 2) as server:
        settings["url"] = server.url
        command = [sys.executable, "-m", "tests.interpretability.judged", json.dumps(settings)]
        command += [str(tmp_path / "calls.db"), str(tmp_path / "answers.json")]
        process = subprocess.Popen(command)
        assert server.holding.wait(60)
        wait_until_kept(tmp_path / "calls.db", server.answered)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        before = len(server.answered)
        assert before == calls // 2
        server.hold_after = None
        subprocess.run(command, check=True, timeout=60)
        assert json.loads((tmp_path / "answers.json").read_text()) == expected
        again = server.answered[before:]
        assert len(again) == calls - before
        assert sorted(server.answered) == sorted(whole.answered)
        with closing(Calls(tmp_path / "calls.db")) as file:
            assert total(file.bill().values())[0::2] == (calls, server.read)


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        ({"calls": 10}, "calls: 10 calls of 10 are spent"),
        ({"tokens": 4_000}, r"tokens: 3,\d{3} tokens of 4,000 are spent"),
        ({"price": 0.01}, r"price: 0\.00\d+ of 0\.01 are spent"),
        ({"calls": 0}, "calls: 0 calls of 0 are spent"),
    ],
)
def test_a_budget_is_not_exceeded_and_a_larger_one_goes_on(server, tmp_path, budget, spent):
    def judged(budget):
        prices = {"input": 2.0, "output": 8.0}
        return ask_all(judge(endpoint(server.url, prices=prices, budget=budget), tmp_path / "calls.db"))

    for _ in range(2):
        with pytest.raises(
            UserError, match=f"budget.{spent}, and the next call would exceed it; raise it and run"
        ):
            judged(budget)
    price = (2 * server.read + 8 * server.written) / 1e6
    for name, came_to in (
        ("calls", len(server.answered)),
        ("tokens", server.read + server.written),
        ("price", price),
    ):
        assert came_to <= budget.get(name, came_to)
    judged({})
    assert len(server.answered) == len(set(server.answered)) == 5 * LATENTS


def test_answers_under_way_are_kept_when_a_call_fails_for_good(server, tmp_path):
    server.faults.extend(["say a", "say b", "status 400", "say c"])
    with pytest.raises(UserError, match="status 400"):
        ask_all(judge(endpoint(server.url, concurrency=4), tmp_path / "calls.db"))
    assert kept(tmp_path / "calls.db") == len(server.answered) == len(server.requests) - 1


def test_a_file_that_is_none_of_ours_gets_one_line_and_stays(server, tmp_path):
    (tmp_path / "calls.db").write_bytes(b"something else" * 100)
    with pytest.raises(UserError, match=r"calls.db: expected the answers of an endpoint"):
        ask_all(judge(endpoint(server.url), tmp_path / "calls.db"))
    assert (tmp_path / "calls.db").read_bytes() == b"something else" * 100
    assert not server.requests


@pytest.mark.parametrize("answered", [0, 10])
def test_what_is_to_come_is_known_before(server, tmp_path, answered):
    calls, prices = tmp_path / "calls.db", Prices(input=0.5, output=2)
    if answered:
        with pytest.raises(UserError, match=r"budget\.calls: 10 calls of 10 are spent"):
            ask_all(judge(endpoint(server.url, budget={"calls": answered}), calls))
    asked = endpoint(server.url, repetitions=2)
    before = (server.read, server.written)
    run = DryRun(asked, calls)
    ask_all(EndpointJudge(asked, Vocabulary(), run), 2)
    assert len(server.answered) == answered
    ask_all(judge(asked, calls), 2)
    assert run.bill.calls == len(server.answered) - answered
    if answered:  # and so it is known how the endpoint counts tokens
        came_to = Bill(read=server.read - before[0], written=server.written - before[1])
        assert run.bill.price(prices) == pytest.approx(came_to.price(prices), rel=0.1)
    again = DryRun(asked, calls)
    ask_all(EndpointJudge(asked, Vocabulary(), again), 2)
    assert again.bill == Bill()


def test_a_preview_makes_no_file(tmp_path):
    ask_all(
        EndpointJudge(endpoint("http://localhost:1"), Vocabulary(), DryRun(endpoint("http://a"), tmp_path / "b"))
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def found():
    return planted(128)


def drawn(found, asked, *kinds):
    """The windows of these kinds of planted latents, and all windows."""
    windows = windows_of(found.text, asked.window, asked.seed)
    drawing = Drawing(windows, found.firings, asked)
    return [drawing.draw(latent, 0) for kind in kinds for latent in found.latents[kind]], windows


def test_planted_latents_are_judged_as_they_should(server, tmp_path, found):
    asked = Interpretability(windows=20, to_explain=40, draws=1)
    examples, windows = drawn(found, asked, "token", "random", "dead")
    at = endpoint(server.url)
    judge = EndpointJudge(at, found.text.tokenizer, Asking(at, tmp_path / "calls.db"))
    asking = ask(judge, examples, windows, 0)
    latents = [example.latent for example in examples]
    scores = scores_of_latents(asking.answers, np.array(latents))
    tokens, random, dead = (np.array(scores["detection"], float)[4 * n : 4 * n + 4] for n in range(3))
    assert tokens.min() > 0.95
    assert abs(random.mean() - 0.5) < 0.15
    assert np.isnan(dead).all()


def test_no_study_costs_more_than_is_said_to_be_the_most(found, tmp_path):
    asked = Interpretability(latents=8, windows=10, to_explain=20, draws=1)
    examples, windows = drawn(found, asked, "token", "random")
    run = DryRun(endpoint("http://localhost:1"), tmp_path / "calls.db")
    ask(EndpointJudge(endpoint("http://localhost:1"), found.text.tokenizer, run), examples, windows, 0)
    most = at_most(asked, endpoint("http://localhost:1"), {})
    assert 0.7 * most.calls < run.bill.calls <= most.calls
    assert 0.5 * most.tokens < run.bill.tokens <= 1.1 * most.tokens


@pytest.fixture
def heard():
    """SIGINT raises KeyboardInterrupt, also where tests run in the background, whose shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_at_once_and_keeps_what_is_answered(server, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.interpretability.endpoint.concurrent_calls.GRACE", 0.1)
    server.hold_after = 4

    def interrupt():
        server.holding.wait()
        wait_until_kept(tmp_path / "calls.db", server.answered)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ask_all(judge(endpoint(server.url, concurrency=2), tmp_path / "calls.db"))
    assert kept(tmp_path / "calls.db") == 4
