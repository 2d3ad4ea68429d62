"""What scores records: a model in this process, or an engine beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from hkdcli.errors import UsageError
from hkdcli.opening import ModelSource
from hkdcli.reporter import Reporter

if TYPE_CHECKING:
    from hkdcli.inference.scored import AnyScorer
    from hkdcli.inference.scoring import Scorer

EngineName = Literal["transformers", "vllm"]


@contextmanager
def open_scorer(
    source: ModelSource, engine: EngineName, *, base: str | None, reporter: Reporter
) -> Iterator[AnyScorer]:
    """Load what scores records.

    Args:
        source: The model.
        engine: What runs it.
        base: Where an adapter's base is, should it have moved.
        reporter: Told what it runs on.

    Yields:
        AnyScorer: Ready to score.
    """
    if engine == "vllm":
        with _open_vllm(source, base, reporter) as scorer:
            yield scorer
        return
    yield load_scorer(source, base=base, reporter=reporter)


def load_scorer(
    source: ModelSource,
    *,
    base: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    reporter: Reporter,
) -> Scorer:
    """Load a model into this process, on the device that there is.

    Args:
        source: The model.
        base: Where an adapter's base is, should it have moved.
        device: `auto` takes a usable GPU where there is one.
        reporter: Told what it runs on.

    Returns:
        What scores records with it.
    """
    from hkdcli.inference.scoring import Scorer
    from hkdcli.models.loading import load_model
    from hkdcli.runtime import choose_runtime

    runtime = choose_runtime(device, "auto")
    reporter.note(runtime.describe())
    loaded = load_model(
        source.model,
        adapter=source.adapter,
        base=base,
        quantization=source.quantization,
        quantized_parts=source.quantized_parts,
        device=runtime.device,
        dtype=runtime.dtype,
    )
    return Scorer(loaded)


@contextmanager
def _open_vllm(source: ModelSource, base: str | None, reporter: Reporter) -> Iterator[AnyScorer]:
    if source.quantization != "none":
        raise UsageError(
            f"--engine vllm: {source.model} is held in {source.quantization} here, and would not be there",
            hint="Use the built-in engine, or export the model and serve it as it is.",
        )
    from hkdcli.inference.vllm_open import open_vllm

    with open_vllm(source.model, adapter=source.adapter, base=base, reporter=reporter) as scorer:
        yield scorer
