"""R19 at its source: a reply is what was asked for, or it is refused; nothing becomes a letter by default."""

from __future__ import annotations

import json
import math
import socket
from typing import Any

import pytest
from fake_vllm import answer_by_hash, normalize, render_reply, serve_in_thread
from hypothesis import given, settings
from hypothesis import strategies as st

from hkdcli.inference.vllm_client import (
    EngineLostError,
    Question,
    ReplyError,
    VllmClient,
    parse_log_probs,
    parse_token_id,
)

MESSAGES = (
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "text", "text": "Which?"},
        ],
    },
)
QUESTION = Question(MESSAGES, (5, 6, 9), continues=False)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)


def make_reply(**log_probs: Any) -> dict[str, Any]:
    entries = [{"token": f"token_id:{name[1:]}", "logprob": value} for name, value in log_probs.items()]
    position = {**entries[0], "top_logprobs": entries}
    return {"choices": [{"message": {"content": "B"}, "logprobs": {"content": [position]}}]}


@pytest.fixture
def client():
    with serve_in_thread() as server:
        yield VllmClient(server.server_address[1], "key", "m", timeout_s=5), server


@given(st.dictionaries(st.integers(0, 40), st.floats(-20, 20), min_size=2, max_size=26))
def test_law_a_reply_as_vllm_writes_it_gives_the_numbers_back(logits):
    log_probs = normalize(logits)
    reply = json.loads(json.dumps(render_reply({"top_logprobs": len(logits)}, log_probs)))
    found = parse_log_probs(reply, tuple(logits))
    assert found == pytest.approx(log_probs, abs=1e-9)
    assert math.log(sum(math.exp(value) for value in found.values())) == pytest.approx(0, abs=1e-9)


@given(ANYTHING)
@settings(max_examples=300)
def test_law_any_other_json_is_an_invalid_answer(reply):
    with pytest.raises(ReplyError) as caught:
        parse_log_probs(reply, (1, 2))
    assert caught.value.code == "engine.invalid_answer"


@given(ANYTHING, st.sampled_from(["choices", "logprobs", "content", "token", "logprob"]))
@settings(max_examples=200)
def test_law_a_reply_with_one_part_replaced_is_refused_or_adds_up(part, name):
    reply = make_reply(_1=math.log(0.5), _2=math.log(0.5))
    holders = {
        "choices": reply,
        "logprobs": reply["choices"][0],
        "content": reply["choices"][0]["logprobs"],
        "token": reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0],
        "logprob": reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0],
    }
    holders[name][name] = part
    try:
        found = parse_log_probs(reply, (1, 2))
    except ReplyError:
        return
    assert sum(math.exp(value) for value in found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"choices": [{"message": {"content": "I see a cat."}, "logprobs": None}]}, "I see a cat"),
        ({"choices": [{"message": {"content": ""}, "logprobs": {"content": []}}]}, "exactly one token"),
        ({"choices": []}, "exactly one token"),
        ({"choices": [{"logprobs": {"content": make_reply(_5=0.0)["choices"] * 40}}]}, "exactly one token"),
        (make_reply(_5=math.nan, _6=-1.0, _9=-1.0), "token 5 is nan"),
        (make_reply(_5=math.inf, _6=-1.0, _9=-1.0), "token 5 is inf"),
        (make_reply(_5=-0.1, _6=-3.0), "says nothing of the legal tokens [9]"),
        (make_reply(_5=-1.1, _6=-1.1, _9=-1.1, _7=-0.5), "token 7 has the log-probability"),
        (make_reply(_5=-8.1, _6=-9.1, _9=-7.1), "add up to exp"),
        (make_reply(_5=8.1, _6=9.1, _9=7.1), "add up to exp"),
    ],
)
def test_r19_what_breaks_the_restriction_is_refused_and_said(reply, said):
    with pytest.raises(ReplyError, match="(?s)" + said.replace("[", r"\[").replace("]", r"\]")) as caught:
        parse_log_probs(reply, (5, 6, 9))
    assert caught.value.code == "engine.invalid_answer"


@pytest.mark.parametrize("text", ["5", "token_id:", "token_id:x", "B", ""])
def test_a_token_without_its_id_is_refused(text):
    with pytest.raises(ValueError):
        parse_token_id(text)


def test_asked_over_http_the_numbers_come_back(client):
    asked, server = client
    found = asked.ask(QUESTION)
    assert found == pytest.approx(answer_by_hash(server.requests[0]), abs=1e-9)
    assert (server.requests[0]["add_generation_prompt"], server.requests[0]["continue_final_message"]) == (
        True,
        False,
    )
    assert asked.is_healthy()
    assert asked.read_version() == server.version
    assert asked.list_models() == ["m"]


def test_another_key_is_refused(client):
    _, server = client
    stranger = VllmClient(server.server_address[1], "guessed", "m", timeout_s=5)
    assert stranger.list_models() == []
    with pytest.raises(ReplyError, match="401: Unauthorized") as caught:
        stranger.ask(QUESTION)
    assert caught.value.code == "engine.refused"


def test_a_broken_request_is_the_record_s_fault_and_a_broken_engine_is_not(client, monkeypatch):
    asked, server = client
    server.change = lambda request, reply: (400, {"error": {"message": "the prompt is too long"}})
    with pytest.raises(ReplyError, match="400: the prompt is too long"):
        asked.ask(QUESTION)
    server.change = lambda request, reply: (500, b"<html>")
    with pytest.raises(ReplyError, match="500: <html>"):  # it says that it is well
        asked.ask(QUESTION)
    monkeypatch.setattr(asked, "is_healthy", lambda: False)
    with pytest.raises(EngineLostError, match="500"):
        asked.ask(QUESTION)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 100_000, b'{"choices": NaN}'])
def test_a_reply_that_is_no_json_is_an_invalid_answer(client, body):
    asked, server = client
    server.change = lambda request, reply: (200, body)
    with pytest.raises(ReplyError) as caught:
        asked.ask(QUESTION)
    assert caught.value.code == "engine.invalid_answer"


def test_nobody_there_and_nobody_answering_are_a_lost_engine():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(EngineLostError, match="broke"):
            VllmClient(port, "key", "m").ask(QUESTION)
        silent.listen()
        with pytest.raises(EngineLostError, match="not answered for 0 s"):
            VllmClient(port, "key", "m", timeout_s=0.2).ask(QUESTION)


def test_a_proxy_of_the_environment_is_not_asked(client, monkeypatch):
    asked, _ = client
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert len(asked.ask(QUESTION)) == 3
