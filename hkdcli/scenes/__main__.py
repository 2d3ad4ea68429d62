"""Remake what the package ships of the embedded world, or write its records as files.

python -m hkdcli.scenes write test --size 600 --out scenes/test
python -m hkdcli.scenes pretrain small --out pretrained/small
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration

    from hkdcli.scenes.lessons import Lesson
    from hkdcli.scenes.pretraining import Plan

Size = Literal["large", "medium", "small"]

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def write(
    split: Annotated[str, typer.Argument(help="train, dev or test.")],
    out: Annotated[Path, typer.Option(help="Folder to write records.json and images/ to.")],
    size: Annotated[int | None, typer.Option(help="How many records.")] = None,
    seed: Annotated[int, typer.Option(help="Which records.")] = 0,
) -> None:
    """Write records of a split as challenge-format files."""
    from hkdcli.scenes.source import load_scenes, write_scenes

    write_scenes(out, load_scenes(split, size=size, seed=seed))


@app.command()
def pretrain(
    name: Annotated[Size, typer.Argument(help="Which size.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
) -> None:
    """Teach one size to see, from random weights, on one thread (large: about half an hour)."""
    from hkdcli.scenes.architecture import build_model
    from hkdcli.scenes.lessons import build_lesson
    from hkdcli.scenes.pretraining import SEEING

    plan = SEEING[name]
    _teach("seeing", plan, lambda: build_model(name, plan.weights_seed), build_lesson, out)


@app.command()
def instruct(
    name: Annotated[Size, typer.Argument(help="Which size.")],
    model: Annotated[Path, typer.Option(help="Model folder that `pretrain` wrote.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
) -> None:
    """Teach a model that sees to answer by letters, on one thread."""
    import torch
    from transformers import LlavaForConditionalGeneration

    from hkdcli.scenes.lessons import build_quiz_lesson
    from hkdcli.scenes.pretraining import ANSWERING

    plan = ANSWERING[name]

    def load() -> LlavaForConditionalGeneration:
        torch.manual_seed(plan.weights_seed)
        return LlavaForConditionalGeneration.from_pretrained(model, dtype=torch.float32)

    _teach("answering", plan, load, build_quiz_lesson, out, before=model)


@app.command()
def ship(
    adapter: Annotated[Path, typer.Argument(help="Adapter folder, as runs/scenes-apex/student.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Write a tuned adapter in float16, without the processor, which its base has."""
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, out / "adapter_model.safetensors")
    for name in ("adapter_config.json", "base.json"):
        (out / name).write_bytes((adapter / name).read_bytes())


def _teach(
    story: str,
    plan: Plan,
    load: Callable[[], LlavaForConditionalGeneration],
    build: Callable[[random.Random], Lesson],
    out: Path,
    before: Path | None = None,
) -> None:
    import torch

    from hkdcli.scenes.pretrained import Story, build_shipped_processor, save_pretrained
    from hkdcli.scenes.pretraining import pretrain as teach

    torch.set_num_threads(1)
    processor = build_shipped_processor()
    curve: list[tuple[int, float, float]] = []
    started = time.process_time()

    def log(step: int, lm_loss: float, flag_loss: float) -> None:
        curve.append((step, lm_loss, flag_loss))
        if step % 50 == 0:
            seconds = time.process_time() - started
            typer.echo(f"step {step}: lm_loss {lm_loss:.3f}, flag_loss {flag_loss:.3f}, {seconds:.0f} CPU s")

    model = load()
    teach(model, plan, build, log)
    told = Story(story, plan, round(time.process_time() - started), curve)
    save_pretrained(model, processor, told, out, before=before)


if __name__ == "__main__":
    app()
