"""A small stand-in for vLLM's server: the part of its API that is asked, with its refusals.

As a program it plays `vllm`: `--version`, and `serve FOLDER ...` with the behaviour that the JSON file named
by FAKE_VLLM_PLAN describes; every start adds the process ids of engine and child to `pids` beside that file.
In a test's own process, `serve_in_thread` answers with any function from a request to log-probabilities.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "0.33.0"
KNOWN = {
    *("model", "messages", "add_generation_prompt", "continue_final_message"),
    *("max_completion_tokens", "temperature", "allowed_token_ids", "logprobs", "top_logprobs"),
    "return_tokens_as_token_ids",
}
Answer = Callable[[dict[str, Any]], dict[int, float]]
Change = Callable[[dict[str, Any], dict[str, Any]], Any]


def answer_by_hash(request: dict[str, Any]) -> dict[int, float]:
    """Log-probabilities that depend on the conversation and the tokens alone."""
    text = json.dumps(request["messages"], sort_keys=True)
    logits = {}
    for token in request["allowed_token_ids"]:
        digest = hashlib.sha256(f"{token} {text}".encode()).digest()
        logits[token] = 6 * int.from_bytes(digest[:4], "big") / 2**32
    return normalize(logits)


def normalize(logits: dict[int, float]) -> dict[int, float]:
    total = math.log(sum(math.exp(value) for value in logits.values()))
    return {token: value - total for token, value in logits.items()}


def render_reply(request: dict[str, Any], log_probs: dict[int, float]) -> dict[str, Any]:
    """As vLLM writes it: the best token, and the best `top_logprobs`, filled up with impossible ones."""
    ranked = sorted(log_probs.items(), key=lambda pair: -pair[1])
    filled = [*ranked, *((10**6 + i, -9999.0) for i in range(request["top_logprobs"] - len(ranked)))]
    entries = [{"token": f"token_id:{token}", "logprob": value, "bytes": None} for token, value in filled]
    position = {**entries[0], "top_logprobs": entries[: request["top_logprobs"]]}
    message = {"role": "assistant", "content": "B"}
    return {"choices": [{"index": 0, "message": message, "logprobs": {"content": [position]}}]}


def find_refusal(request: dict[str, Any], models: set[str], most: int) -> tuple[int, str] | None:
    if unknown := set(request) - KNOWN:
        return 400, f"not asked for in the tests: {unknown}"
    if request["model"] not in models:
        return 404, f"The model {request['model']} does not exist."
    if request["continue_final_message"] and request["add_generation_prompt"]:
        return 400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
    if request["top_logprobs"] > most:
        return 400, f"Requested sample logprobs of {request['top_logprobs']}, which is greater than {most}"
    image = request["messages"][0]["content"][0]["image_url"]["url"]
    if not image.startswith("data:image/png;base64,"):
        return 400, "no PNG"
    return None


class FakeServer(ThreadingHTTPServer):
    """What a handler needs to know; `count` counts chat requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, key: str, models: set[str], answer: Answer) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.key, self.models, self.answer = key, models, answer
        self.version = VERSION
        self.most = 20
        self.change: Change = lambda request, reply: reply
        self.requests: list[dict[str, Any]] = []
        self.on_request: Callable[[int], None] = lambda count: None
        self.counting = threading.Lock()

    def handle_error(self, *arguments: Any) -> None:
        """Clients may go away without a word."""


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, {})
        elif self.path == "/version":
            self._send(200, {"version": self.server.version})
        elif self.headers["Authorization"] != f"Bearer {self.server.key}":
            self._send(401, {"error": {"message": "Unauthorized"}})
        else:
            self._send(200, {"object": "list", "data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {self.server.key}":
            self._send(401, {"error": {"message": "Unauthorized"}})
            return
        with self.server.counting:
            self.server.requests.append(request)
            self.server.on_request(len(self.server.requests))
        if refusal := find_refusal(request, self.server.models, self.server.most):
            self._send(refusal[0], {"error": {"message": refusal[1], "code": refusal[0]}})
            return
        reply = render_reply(request, self.server.answer(request))
        self._send(200, self.server.change(request, reply))

    def _send(self, status: int, value: Any) -> None:
        status, value = value if isinstance(value, tuple) else (status, value)
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serve_in_thread(answer: Answer = answer_by_hash) -> Iterator[FakeServer]:
    """A server in this process, on a port of its own; its key is "key" and its model "m"."""
    server = FakeServer(0, "key", {"m"}, answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def install(folder: Path, **plan: Any) -> Path:
    """Put a `vllm` that follows `plan` into a new folder; returns the plan's path."""
    folder.mkdir(exist_ok=True)
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{Path(__file__).resolve()}" "$@"\n')
    program.chmod(0o755)
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder / "plan.json"


def read_pids(plan: Path) -> list[list[int]]:
    """Of each start so far the process ids."""
    path = plan.with_name("pids")
    return (
        [[int(pid) for pid in line.split()] for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def main() -> None:
    path = Path(os.environ["FAKE_VLLM_PLAN"])
    plan = json.loads(path.read_text())
    if sys.argv[1:] == ["--version"]:
        print("INFO a line of a plugin\n" + plan.get("version", VERSION))
        sys.exit(plan.get("version_code", 0))
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("folder", type=Path)
    for name in ("host", "served-model-name", "chat-template-content-format", "generation-config"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--chat-template", type=argparse.FileType(), required=True)
    parser.add_argument("--logprobs-mode", choices=["processed_logprobs"], required=True)
    for name in ("port", "max-logprobs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("max-model-len", "max-lora-rank"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--limit-mm-per-prompt", type=json.loads)
    parser.add_argument("--lora-modules")
    for name in ("disable-uvicorn-access-log", "enable-lora"):
        parser.add_argument(f"--{name}", action="store_true")
    run(path, plan, parser.parse_args())


def run(path: Path, plan: dict[str, Any], options: argparse.Namespace) -> None:
    child = subprocess.Popen(["sleep", "600"])
    starts = len(read_pids(path))
    with path.with_name("pids").open("a") as file:
        file.write(f"{os.getpid()} {child.pid}\n")
    path.with_name("arguments").write_text("\n".join(sys.argv[1:]))
    print("loading the model\nmodel loaded", plan.get("says", ""), file=sys.stderr, flush=True)
    fails = plan.get("fails", [])
    if starts < len(fails) and fails[starts]:
        sys.exit(fails[starts])
    if plan.get("never_healthy"):
        time.sleep(600)
    models = {options.served_model_name} | ({"hkd"} if options.enable_lora else set())
    server = FakeServer(options.port, os.environ["VLLM_API_KEY"], models, answer_by_hash)
    server.version = plan.get("server_version", VERSION)
    server.most = options.max_logprobs
    dies_at = plan.get("dies_at", [])
    if starts < len(dies_at) and dies_at[starts]:
        server.on_request = lambda count: die() if count == dies_at[starts] else None
    server.serve_forever()


def die() -> None:
    print("CUDA error: an illegal memory access was encountered", file=sys.stderr, flush=True)
    os._exit(9)


if __name__ == "__main__":
    main()
