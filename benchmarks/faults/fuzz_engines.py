"""One target tried by one engine in this process, within limits; what escapes is kept, the search goes on.

    python fuzz_engines.py MODULE TARGET ENGINE SECONDS SEED FOLDER

FOLDER gets result.json, rewritten every second, and `current`: the input being tried, for whoever finds this
process dead.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fuzz_targets import Target, run_input

MOST_CPU_S = 5.0  # of one input
MOST_WALL_S = 60.0  # the same where nothing is computed: something waits
MOST_MEMORY = 2**30  # bytes of address space beyond what the imports and the valid inputs took
MOST_REDUCING_S = 10.0
MOST_INPUT = 65_536


class TooSlow(BaseException):
    """An input took more than `MOST_CPU_S`; no Exception, lest the reader takes it for its own."""


class Trial:
    """Inputs tried so far: what became of them, and the smallest of each kind that escaped."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.outcomes: Counter[str] = Counter()
        self.escapes: dict[str, bytes] = {}
        self.slowest_s, self.slowest = 0.0, b""
        self._current = os.open(folder / "current", os.O_RDWR | os.O_CREAT, 0o644)
        self._work = folder / "work"
        self._work.mkdir(exist_ok=True)
        self._written = 0.0
        self._start_memory = 0
        signal.signal(signal.SIGPROF, _stop)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process: the parent keeps its input

    def limit_memory(self) -> None:
        """Count memory from here on; more than `MOST_MEMORY` is a MemoryError."""
        size = _read_status("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (size + MOST_MEMORY, resource.RLIM_INFINITY))
        Path("/proc/self/clear_refs").write_text("5")
        self._start_memory = _read_status("VmRSS")

    def try_input(self, data: bytes) -> str | None:
        """Try one input; gives the kind of its escape, None where there is none."""
        os.ftruncate(self._current, 0)
        os.pwrite(self._current, data, 0)
        start, kind = time.process_time(), None
        signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
        signal.setitimer(signal.ITIMER_REAL, MOST_WALL_S)
        try:
            self.outcomes[run_input(self.target, data, self._work) or "read"] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            kind = _describe(error)
            self.outcomes["escaped"] += 1
            if len(data) <= len(self.escapes.get(kind, data)):
                self.escapes[kind] = data
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        if (spent := time.process_time() - start) > self.slowest_s:
            self.slowest_s, self.slowest = spent, data
        if time.monotonic() > self._written + 1:
            self.write()
        return kind

    def reduce_escapes(self) -> None:
        """Make each kept input smaller while it escapes in the same way; this counts as no input tried."""
        tried = self.outcomes.copy()
        for kind in list(self.escapes):
            end, step = time.monotonic() + MOST_REDUCING_S, len(self.escapes[kind]) // 2
            while step and time.monotonic() < end:
                if not self._drop(kind, step, end):
                    step //= 2
        self.outcomes = tried
        self.write()

    def write(self) -> None:
        """Write what was found so far."""
        self._written = time.monotonic()
        result = {
            "outcomes": self.outcomes,
            "escapes": {kind: data.hex() for kind, data in self.escapes.items()},
            "slowest_s": self.slowest_s,
            "slowest": self.slowest[:MOST_INPUT].hex(),
            "memory_mib": (_read_status("VmHWM") - self._start_memory) / 2**20,
        }
        aside = self.folder / "result.tmp"
        aside.write_text(json.dumps(result))
        aside.replace(self.folder / "result.json")

    def _drop(self, kind: str, step: int, end: float) -> bool:
        """Leave out one stretch of so many bytes; gives whether that went."""
        data = self.escapes[kind]
        for start in range(1, len(data), step):
            if time.monotonic() > end:
                return False
            if self.try_input(data[:start] + data[start + step :]) == kind:
                return True
        return False


def search_with_hypothesis(trial: Trial, seconds: float, seed: int) -> None:
    """Try valid inputs that hypothesis damages, round after round, each of another seed."""
    import hypothesis
    from fuzz_damage import draw_damaged

    end, seeds = time.monotonic() + seconds, trial.target.list_seeds()
    chosen = hypothesis.settings(
        max_examples=500,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    def attempt(data: bytes) -> None:
        if time.monotonic() < end:
            trial.try_input(data)

    while time.monotonic() < end:
        hypothesis.seed(seed)(chosen(hypothesis.given(draw_damaged(seeds))(attempt)))()
        seed += 1000


def search_with_atheris(trial: Trial, seconds: float, seed: int) -> None:
    """Let libFuzzer change the valid inputs, led by the coverage of hkd's own code; does not return."""
    import atheris

    corpus = trial.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for place, data in enumerate(trial.target.list_seeds()):
        (corpus / str(place)).write_bytes(data)
    end = time.monotonic() + seconds

    def attempt(data: bytes) -> None:
        if time.monotonic() > end:
            trial.reduce_escapes()
            os._exit(0)
        trial.try_input(bytes(data))

    options = ["-handle_alrm=0", "-rss_limit_mb=0", f"-max_len={MOST_INPUT}", f"-seed={seed + 1}"]
    atheris.Setup([sys.argv[0], str(corpus), *options], attempt)
    atheris.Fuzz()


def _stop(number: int, frame: Any) -> None:
    raise TooSlow(f"more than {MOST_CPU_S:g} s")


def _describe(error: BaseException) -> str:
    """An escape in a line: what it is, and the last line of hkd that it went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "hkdcli" in frame.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "the target"
    if isinstance(error, TooSlow):
        return f"TooSlow in {where}"
    said = ascii(str(error).split("\n")[0])[1:60] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} in {where} {said}".strip()


def _read_status(name: str) -> int:
    """Bytes that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def _instrument(engine: str) -> Any:
    if engine != "atheris":
        return nullcontext()
    import atheris

    return atheris.instrument_imports(include=["hkdcli", "yaml"])


def main() -> None:
    module, name, engine, seconds, seed, folder = sys.argv[1:]
    with _instrument(engine):
        target = importlib.import_module(module).TARGETS[name]
    trial = Trial(target, Path(folder))
    for data in target.list_seeds():
        trial.try_input(data)
    trial.limit_memory()
    search = search_with_atheris if engine == "atheris" else search_with_hypothesis
    search(trial, float(seconds), int(seed))
    trial.reduce_escapes()


if __name__ == "__main__":
    main()
