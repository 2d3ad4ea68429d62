"""What is asked of a running vLLM over HTTP, and what its replies must hold.

One question is one token: which of the allowed ones comes next. http.client and not urllib, because a proxy
that the environment names has no business between two processes of one machine.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
TOKEN_PREFIX = "token_id:"
# vLLM writes -9999 where a probability is 0, as it is of tokens that are not allowed.
LOG_ZERO = -9000.0
# log-probabilities come as float32; those of raw logits would miss 1 by far more.
MOST_LOG_TOTAL = 1e-2


class EngineLostError(Exception):
    """The engine does not answer any more: it ended, hangs, or says that it is broken."""


class ReplyError(ValueError):
    """One reply cannot be used, `code` says why: `engine.refused` or `engine.invalid_answer`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class Question:
    """Which token comes next, of at least two allowed ones.

    `messages` are those of the chat API; `continues` says that the last one is an answer to go on with.
    """

    messages: tuple[Mapping[str, Any], ...]
    allowed: tuple[int, ...]
    continues: bool


class VllmClient:
    """Talks to one server; safe to share between threads.

    Args:
        port: of the server on this machine.
        key: that it was started with.
        model: what the server calls the model or adapter to ask.
        timeout_s: silence after which the engine counts as lost.
    """

    def __init__(self, port: int, key: str, model: str, *, timeout_s: float = 600.0) -> None:
        self.port = port
        self.model = model
        self.timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def is_healthy(self) -> bool:
        """Whether the engine says of itself that it can answer."""
        try:
            return self._send("GET", "/health", timeout_s=10.0)[0] == 200
        except EngineLostError:
            return False

    def read_version(self) -> str:
        """Version of the server; "" where it does not say."""
        status, body = self._send("GET", "/version")
        found = _parse(body) if status == 200 else None
        return str(found.get("version", "")) if isinstance(found, dict) else ""

    def list_models(self) -> list[str]:
        """Names that can be asked; none where the key does not fit or the reply is no list."""
        status, body = self._send("GET", "/v1/models")
        found = _parse(body) if status == 200 else None
        data = found.get("data") if isinstance(found, dict) else None
        entries = data if isinstance(data, list) else []
        return [str(entry.get("id")) for entry in entries if isinstance(entry, dict)]

    def ask(self, question: Question) -> dict[int, float]:
        """Log-probability of each allowed token, normalised over them.

        Args:
            question: what to ask.

        Returns:
            Token id -> log-probability, one for each allowed token.

        Raises:
            EngineLostError: no answer, or an engine that is broken.
            ReplyError: the request is refused, or its reply is not what was asked for.
        """
        status, body = self._send("POST", "/v1/chat/completions", self._render(question))
        if status == 200:
            return parse_log_probs(_parse(body), question.allowed)
        if status >= 500 and not self.is_healthy():
            raise EngineLostError(f"it answered with status {status}: {_shorten(body)}")
        raise ReplyError("engine.refused", f"the engine answered with status {status}: {_shorten(body)}")

    def _render(self, question: Question) -> bytes:
        request = {
            "model": self.model,
            "messages": question.messages,
            "add_generation_prompt": not question.continues,
            "continue_final_message": question.continues,
            "max_completion_tokens": 1,
            "temperature": 0,
            "allowed_token_ids": question.allowed,
            "logprobs": True,
            "top_logprobs": len(question.allowed),
            "return_tokens_as_token_ids": True,
        }
        return json.dumps(request).encode()

    def _send(
        self, method: str, path: str, body: bytes | None = None, *, timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s or self.timeout_s)
        try:
            connection.request(method, path, body, self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError as error:
            raise EngineLostError(f"it has not answered for {connection.timeout:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineLostError(f"the connection to it broke: {ascii(str(error))[:200]}") from error
        finally:
            connection.close()


def parse_log_probs(reply: Any, allowed: Sequence[int]) -> dict[int, float]:
    """Read the log-probabilities of the allowed tokens from a reply of the chat API.

    Args:
        reply: the JSON value.
        allowed: token ids.

    Returns:
        One finite log-probability for each allowed token; their probabilities add up to 1.

    Raises:
        ReplyError: the reply holds other than exactly one token, leaves out an allowed one, gives another
            one a chance, or its numbers are no log-probabilities.
    """
    try:
        (choice,) = reply["choices"]
        (position,) = choice["logprobs"]["content"]
        entries = [position, *position["top_logprobs"]]
        found = {parse_token_id(entry["token"]): float(entry["logprob"]) for entry in entries}
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        detail = f"no log-probabilities of exactly one token in the reply: {_describe(reply)}"
        raise ReplyError("engine.invalid_answer", detail) from error
    for token, value in found.items():
        if not math.isfinite(value) and value != -math.inf:
            raise ReplyError("engine.invalid_answer", f"the log-probability of token {token} is {value}")
        if token not in allowed and value > LOG_ZERO:
            detail = (
                f"token {token} has the log-probability {value:g} and is none of the legal {list(allowed)}"
            )
            raise ReplyError("engine.invalid_answer", detail)
    if missing := [token for token in allowed if not math.isfinite(found.get(token, math.nan))]:
        raise ReplyError("engine.invalid_answer", f"the reply says nothing of the legal tokens {missing}")
    top = max(found[token] for token in allowed)
    total = top + math.log(sum(math.exp(found[token] - top) for token in allowed))
    if abs(total) > MOST_LOG_TOTAL:
        detail = f"the probabilities of the legal tokens add up to exp({total:g}), not to 1"
        raise ReplyError("engine.invalid_answer", detail)
    return {token: found[token] - total for token in allowed}


def parse_token_id(text: str) -> int:
    """The id in "token_id:123"; raises ValueError."""
    if not text.startswith(TOKEN_PREFIX):
        raise ValueError("no token id")
    return int(text.removeprefix(TOKEN_PREFIX))


def _parse(body: bytes) -> Any:
    """JSON, or None: what was asked for is then found missing."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _describe(reply: Any) -> str:
    """The text that came instead of an answer, or the beginning of the reply."""
    try:
        text = reply["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        text = reply
    return ascii(text)[:120]


def _shorten(body: bytes) -> str:
    found = _parse(body)
    error = found.get("error") if isinstance(found, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return ascii(str(message or body.decode("utf-8", "replace")))[1:-1][:300]
