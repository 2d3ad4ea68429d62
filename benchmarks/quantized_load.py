"""How much memory of the host it takes to load a large teacher in few bits.

    python benchmarks/quantized_load.py --json benchmarks/quantized_load.json

A random Qwen2.5-VL is written in bfloat16, in shards, and loaded as `hkd` loads a level: computed with in
float32 on a CPU, its weights held in 4 bits (nf4), in 8 bits (int8) and whole (none). Then nf4 and none are
loaded once more below a limit that the system keeps (RLIMIT_DATA), which has room for the files as they are
mapped, the quantized weights, two shards, and nothing like the whole weights. Each load is in a process of
its own, forked from one that has loaded everything but weights.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from distill_step import describe_machine

from hkdcli.errors import MachineLimitError
from hkdcli.models.loading import load_model
from hkdcli.runtime import keep_freed_memory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_models import save_tiny_qwen

MB = 10**6
SLACK_MB = 32  # what Python and the libraries take beside the weights
DEFINITIONS = {
    "files_mb": "size of the checkpoint on disk",
    "weights_mb": "size of the loaded weights",
    "peak_mb": "most anonymous memory (RssAnon, every millisecond) while loading, less what was there before",
    "left_mb": "anonymous memory afterwards, less what was there before; on a CPU it holds the weights",
    "limit_mb": "room below RLIMIT_DATA, in which mapped files count: files, nf4 weights, two shards, 32 MB",
}


def apart(work: Callable[..., Any], *given: Any) -> Any:
    """Do something in a process of its own, which begins as this one is now."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, given)


def save_sharded(folder: Path, *sizes: int) -> None:
    """A random model in bfloat16, of so many columns, layers, tokens, and MB a shard."""
    hidden_size, layers, vocabulary, shard_mb = sizes
    whole = save_tiny_qwen(folder / "whole", hidden_size=hidden_size, layers=layers, vocab_size=vocabulary)
    loaded = load_model(whole, dtype=torch.bfloat16)
    model: Any = loaded.model
    model.save_pretrained(folder / "sharded", max_shard_size=f"{shard_mb}MB")
    loaded.processor.save_pretrained(folder / "sharded")


def settle() -> int:
    """Anonymous memory in bytes, once nothing lies about."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return read_status("RssAnon")


def read_status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


@contextmanager
def watch_peak() -> Iterator[Callable[[], int]]:
    """The most anonymous memory of this process so far."""
    seen, ended = [read_status("RssAnon")], threading.Event()

    def look() -> None:
        while not ended.wait(0.001):
            seen[0] = max(seen[0], read_status("RssAnon"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lambda: seen[0]
    finally:
        ended.set()
        watcher.join()


@contextmanager
def limit_data(room: int) -> Iterator[None]:
    """Let the system refuse more than `room` bytes on top of what the process has."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (read_status("VmData") + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def measure(folder: Path, quantization: Any) -> dict[str, float]:
    """Load a model, and say what it took."""
    before, started = settle(), time.perf_counter()
    with watch_peak() as read_peak:
        loaded = load_model(folder, quantization=quantization)
        seconds, peak = time.perf_counter() - started, read_peak()
    size = sum(weights.numel() * weights.element_size() for weights in loaded.model.parameters())
    figures = {"weights_mb": size, "peak_mb": peak - before, "left_mb": settle() - before}
    return {name: round(value / MB, 1) for name, value in figures.items()} | {"seconds": round(seconds, 1)}


def fits(folder: Path, quantization: Any, room: int) -> bool:
    """Whether a model loads with so much room."""
    settle()
    try:
        with limit_data(room):
            load_model(folder, quantization=quantization)
    except MachineLimitError:
        return False
    return True


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write the model, load it in each way, and then below the limit."""
    warm_up = save_tiny_qwen(folder / "tiny", hidden_size=64)
    for quantization in options.quantizations:
        measure(warm_up, quantization)
    keep_freed_memory()  # as every command does on a CPU
    sizes = {"hidden_size": options.hidden_size, "layers": options.layers, "vocabulary": options.vocabulary}
    apart(save_sharded, folder, *sizes.values(), options.shard_mb)
    model = folder / "sharded"
    files = [path.stat().st_size for path in model.glob("*.safetensors")]
    report: dict[str, Any] = {"shards": len(files), "files_mb": round(sum(files) / MB, 1), **sizes}
    report["loads"] = {name: apart(measure, model, name) for name in options.quantizations}
    room = sum(files) + int((report["loads"]["nf4"]["weights_mb"] + SLACK_MB) * MB) + 2 * max(files)
    report["limit_mb"] = round(room / MB, 1)
    report["fits"] = {name: apart(fits, model, name, room) for name in ("nf4", "none")}
    return report


def render_table(report: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| weights held in | weights, MB | peak, MB | left, MB | seconds |", "|---|---|---|---|---|"]
    for name, row in report["loads"].items():
        lines.append(f"| {name} | " + " | ".join(f"{value:g}" for value in row.values()) + " |")
    said = {True: "loads", False: "is refused"}
    fits = ", ".join(f"{name} {said[fit]}" for name, fit in report["fits"].items())
    return "\n".join([*lines, "", f"below a limit of {report['limit_mb']:g} MB: {fits}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden-size", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--shard-mb", type=int, default=20)
    parser.add_argument("--quantizations", nargs="+", default=["nf4", "int8", "none"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), options)
    words = ["python", "benchmarks/quantized_load.py", *(sys.argv[1:] if arguments is None else arguments)]
    report = {"command": " ".join(words)} | describe_machine() | {"definitions": DEFINITIONS} | figures
    print(render_table(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
