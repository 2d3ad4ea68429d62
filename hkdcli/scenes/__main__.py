"""Remake what the package ships of the embedded world, or write its records as files.

python -m hkdcli.scenes write test --size 600 --out scenes/test
python -m hkdcli.scenes pretrain small --out pretrained/small
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

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
    name: Annotated[str, typer.Argument(help="large, medium or small.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
) -> None:
    """Pretrain one size on one thread and write it, with its curve, as a model folder."""
    import torch

    from hkdcli.scenes.pretrained import build_shipped_processor, save_pretrained
    from hkdcli.scenes.pretraining import PLANS, pretrain

    torch.set_num_threads(1)
    processor = build_shipped_processor()
    curve: list[tuple[int, float, float]] = []
    started = time.process_time()

    def log(step: int, lm_loss: float, flag_loss: float) -> None:
        curve.append((step, lm_loss, flag_loss))
        if step % 50 == 0:
            seconds = time.process_time() - started
            typer.echo(f"step {step}: lm_loss {lm_loss:.3f}, flag_loss {flag_loss:.3f}, {seconds:.0f} CPU s")

    model = pretrain(name, PLANS[name], log)
    save_pretrained(model, processor, PLANS[name], curve, time.process_time() - started, out)


if __name__ == "__main__":
    app()
