"""vLLM as a child process: started under the supervisor, checked, started again, ended.

The server listens on this machine alone and wants a key that nobody else knows. It gets no code of the model,
reads no hub and reports no use. Its last lines are kept for the error that tells of its end.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hkdcli.errors import HkdError, MachineLimitError, SetupError
from hkdcli.inference import supervisor
from hkdcli.inference.vllm_client import HOST, EngineLostError, VllmClient
from hkdcli.inference.vllm_program import VllmProgram, check_version

ADAPTER_NAME = "hkd"
MOST_CHOICES = 26
LINES_KEPT = 30
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|memory for (the )?(KV )?cache|cache blocks", re.I)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What to serve: a model folder, the file of its chat template, perhaps an adapter.

    `lora_rank` is the rank that room is made for; `max_length` the most tokens of a prompt, None leaves it to
    the model's settings.
    """

    folder: Path
    chat_template: Path
    adapter: Path | None = None
    lora_rank: int = 16
    max_length: int | None = None


class VllmServer:
    """One vLLM server at a time; `start` before anything else, `stop` in the end.

    Args:
        program: the vLLM to run.
        model: what it serves.
        timeout_s: how long it may take to become ready: it loads, compiles and measures.
    """

    def __init__(self, program: VllmProgram, model: ServedModel, *, timeout_s: float = 1800.0) -> None:
        self.program = program
        self.model = model
        self.timeout_s = timeout_s
        self.client = VllmClient(0, "", "")
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)

    def start(self) -> None:
        """Start the server and wait until it is ready and known to be ours.

        `SetupError` where it ends, is not ready in time, or is another program or version;
        `MachineLimitError` where its last lines say that memory ran out. Nothing is left running then.
        """
        self.stop()
        key, name, port = secrets.token_urlsafe(24), f"hkd-{secrets.token_hex(6)}", _find_port()
        command = [self.program.path, *build_arguments(self.model, name, port)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", supervisor.__file__, str(os.getpid()), *command],
            env={**os.environ, "VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._lines.clear()
        self._reader = threading.Thread(target=self._read_lines, args=(self._process,), daemon=True)
        self._reader.start()
        self.client = VllmClient(port, key, name if self.model.adapter is None else ADAPTER_NAME)
        try:
            self._await_ready(name)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and all of its children; does nothing where there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        with suppress(subprocess.TimeoutExpired):
            process.wait(supervisor.GRACE_S + 10)
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join(2)

    def describe_end(self) -> str:
        """How the server ended, if it did, and its last lines; waits a moment for an end that is near."""
        code = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(supervisor.TICK_S * 5)
        if code is not None and self._reader is not None:
            self._reader.join(2)
        ended = "it is still running" if code is None else f"it ended with exit code {code}"
        said = "\n".join(f"  | {line}" for line in self._lines)
        return f"{ended}; its last lines:\n{said}" if said else f"{ended} and said nothing"

    def _await_ready(self, name: str) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not self.client.is_healthy():
            if self._process is None or self._process.poll() is not None:
                raise self._explain("vLLM did not start")
            if time.monotonic() > deadline:
                raise self._explain(f"vLLM was not ready after {self.timeout_s:.0f} s")
            time.sleep(0.25)
        try:
            version, models = self.client.read_version(), self.client.list_models()
        except EngineLostError as error:
            raise self._explain(f"vLLM was ready, then lost: {error}") from error
        check_version(version, "the server's /version")
        if not {name, self.client.model} <= set(models):
            raise self._explain(f"what answers on port {self.client.port} is not the vLLM that was started")

    def _explain(self, what: str) -> HkdError:
        message = f"{what}: {self.describe_end()}"
        if _OUT_OF_MEMORY.search(message):
            return MachineLimitError(message, hint="Use a smaller model, or a GPU with more memory.")
        return SetupError(message, hint="The built-in engine needs no vLLM: leave --engine out.")

    def _read_lines(self, process: subprocess.Popen[bytes]) -> None:
        with process.stdout as said:  # type: ignore[union-attr]
            for line in said:
                self._lines.append(ascii(line.decode("utf-8", "replace").rstrip())[1:-1][:300])


def build_arguments(model: ServedModel, name: str, port: int) -> list[str]:
    """The arguments of `vllm`, without the program.

    Args:
        model: what to serve.
        name: what to call it.
        port: where.

    Returns:
        `serve`, the folder and options.
    """
    options = {
        "--host": HOST,
        "--port": str(port),
        "--served-model-name": name,
        "--chat-template": str(model.chat_template),
        "--chat-template-content-format": "openai",  # the template is handed text and image as parts
        # The model's own sampling defaults hold penalties, which would change the probabilities.
        "--generation-config": "vllm",
        # After the restriction to legal letters, so that what is left adds up to 1.
        "--logprobs-mode": "processed_logprobs",
        "--max-logprobs": str(MOST_CHOICES),
        "--limit-mm-per-prompt": json.dumps({"image": 1}),
    }
    if model.max_length is not None:
        options["--max-model-len"] = str(model.max_length)
    if model.adapter is not None:
        options["--lora-modules"] = f"{ADAPTER_NAME}={model.adapter}"
        options["--max-lora-rank"] = str(model.lora_rank)
    flags = ["--disable-uvicorn-access-log", *(["--enable-lora"] if model.adapter else [])]
    return ["serve", str(model.folder), *(text for pair in options.items() for text in pair), *flags]


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
