"""Targets that read settings: recipes with overrides, bare YAML, calibrations."""

from __future__ import annotations

import json
from pathlib import Path

from fuzz_targets import Seeds, Target

from hkdcli.errors import ModelError, Problem, RecipeError, UsageError
from hkdcli.inference.calibration_file import (
    AskedHow,
    Calibration,
    Fit,
    find_fit,
    read_calibration,
    write_calibration,
)
from hkdcli.inference.task_fit import Half, TaskFit
from hkdcli.recipe_file import build_recipe, guess_kind, read_recipe, render_recipe
from hkdcli.recipe_schema import KINDS
from hkdcli.safe_yaml import parse_yaml

RECIPES = Path(__file__).parents[2] / "recipes"
OVERRIDES = {
    "distill-online": b"\0train.learning_rate=1e-4\0pyramid.small.train.max_steps=70\0pyramid[0].model=other",
    "distill-refine": b"\0refine.states={layers: 2, grid: 3}\0train.max_steps=50",
    "augment": b"\0copies=3\0augment.policy=light",
}


def read_recipe_file(variant: str, content: bytes, folder: Path) -> None:
    """The YAML, then the overrides, parted by NUL, which neither can hold."""
    text, *overrides = content.split(b"\0")
    path, kind = folder / "recipe.yaml", KINDS[variant]
    path.write_bytes(text)
    guess_kind(path)
    said = [each.decode("utf-8", "surrogateescape") for each in overrides]
    rendered = render_recipe(read_recipe(path, kind, said))
    assert render_recipe(build_recipe(rendered, kind)) == rendered


def make_recipes() -> Seeds:
    names = {
        "distill-online": "quickstart",
        "distill-refine": "quickstart-refine",
        "augment": "augment/scenes",
    }
    for kind, name in names.items():
        text = (RECIPES / f"{name}.yaml").read_bytes()
        yield kind, text
        yield kind, text + OVERRIDES[kind]
    for path in (RECIPES / "online" / "qwen2.5-vl-72b-7b-3b.yaml", RECIPES / "real" / "coco-online.yaml"):
        yield "distill-online", path.read_bytes()
    whole = build_recipe((RECIPES / "quickstart.yaml").read_text("utf-8"), KINDS["distill-online"])
    yield "distill-online", render_recipe(whole).encode()


class _YamlError(Exception):
    """What is wrong with a text, as `parse_yaml` lists it."""


def read_yaml(variant: str, content: bytes, folder: Path) -> None:
    value, problems = parse_yaml(content.decode("utf-8", "replace"))
    assert all(isinstance(problem, Problem) and problem.detail for problem in problems)
    json.dumps(value, allow_nan=True)
    if problems:
        raise _YamlError(problems[0].detail)


def make_yaml() -> Seeds:
    yield "text", (RECIPES / "quickstart.yaml").read_bytes()
    yield (
        "text",
        b"%YAML 1.1\n---\na: &x [1, 2.5e-3, \"\\x41\\u00e9\", 'q']\nb: *x\nc: |\n  text\n  y\nd: >-\n  x\n",
    )
    yield "text", b"? key\n: {a: ~, b: [], 'c': true}\n# comment\ne: !\nf: -.5\n"


def read_calibration_file(variant: str, content: bytes, folder: Path) -> None:
    path = folder / "calibration.json"
    path.write_bytes(content)
    calibration = read_calibration(path)
    write_calibration(path, calibration)
    assert read_calibration(path) == calibration
    assert all(find_fit(calibration, fit.asking.model_dump()) == fit for fit in calibration.fits)


def make_calibrations() -> Seeds:
    half = Half(confidence=(0.9, 0.5), correct=(True, False))
    names = ("nll_before", "nll_after", "ece_before", "ece_after", "exact_match_before", "exact_match_after")
    fit = TaskFit(
        temperature=1.5,
        decoding="threshold",
        threshold=0.5,
        fit_half=half,
        test_half=half,
        **dict.fromkeys(names, 0.1),
    )
    asking = AskedHow(shifts=4, what="both", move_none=True, combination="log_mean", debias="prior")
    prior = {"factuality": {4: (0.5, 0.0, 0.0, -0.5)}}
    one = Fit(asking=asking, tasks={"hallucination": fit}, letter_prior=prior, data="dev", data_hash="ab")
    other = one.model_copy(
        update={"asking": asking.model_copy(update={"debias": "none"}), "letter_prior": {}}
    )
    whole = Calibration(prompt_hash="p" * 64, weights_hash="w" * 64, fits=(one, other))
    yield "file", json.dumps(whole.model_dump(mode="json"), indent=2).encode()


TARGETS = {
    "recipe": Target(read_recipe_file, "read_recipe", tuple(KINDS), (RecipeError, UsageError), make_recipes),
    "yaml": Target(read_yaml, "parse_yaml", ("text",), (_YamlError,), make_yaml),
    "calibration": Target(
        read_calibration_file, "read_calibration", ("file",), (ModelError,), make_calibrations
    ),
}
