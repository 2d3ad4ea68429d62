"""Write docs/cli.md from the app, docs/recipes.md from the schema, and parts of pages from the docstrings.

The parts are README's file tree, the table of operations in docs/augment.md, and the tables of
docs/choosing-a-pyramid.md, which are of the figures in benchmarks/cards.json.

python docs/generate.py            write them all
python docs/generate.py --check    exit 1 when either is stale
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from page_parts import render_choosing, replace_part
from typer.main import get_command

from hkdcli.augment.operations import get_operations
from hkdcli.augment.policies import build_policy
from hkdcli.cli import app
from hkdcli.cli_options import EXAMPLES
from hkdcli.recipe import Recipe
from hkdcli.recipe_augment import AugmentRecipe
from hkdcli.recipe_blocks import RecipePart
from hkdcli.recipe_refine import RefineRecipe
from hkdcli.recipe_schema import iterate_fields

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
TREE_BEGIN, TREE_END = "<!-- files: written by docs/generate.py -->\n", "<!-- end of files -->"
AUGMENT = DOCS / "augment.md"
TABLE_BEGIN, TABLE_END = "<!-- operations: written by docs/generate.py -->\n", "<!-- end of operations -->"
CHOOSING = DOCS / "choosing-a-pyramid.md"
EXIT_CODES = {
    0: "done",
    1: "a bug of ours, or a training whose loss or gradients are not finite",
    2: "a recipe, option or argument cannot be used",
    3: "data, a model folder or the environment is refused",
    4: "the machine's limit: memory, disk or GPU",
    5: "finished, and some records failed",
    6: "a quality gate was not met",
    7: "a needed file is absent while offline",
    130: "stopped by Ctrl-C, after a safe save where there was something to save",
    141: "whoever read the output went away, as after a pipe into `head`",
    143: "stopped by SIGTERM, likewise",
}

# Blocks whose fields are described under another name.
REPEATED = {"data.dev": "data.train", "data.test": "data.train", "pyramid[].train": "train"}

HOW_TO = """
# Recipes

Generated from `hkdcli/recipe*.py` by `docs/generate.py`; do not edit.

A recipe is one YAML file that says everything about a run: the data, the pyramid of models, what a level
learns from those above it, and how it is trained. A field that is left out has the default below. A feature
that is off is `null`.

```yaml
name: quickstart
data:
  train: {scenes: {split: train, size: 4000}}
  test: {file: test.json, images: photos}
pyramid:                                    # largest first
  - {name: large, model: "scenes:large", adapter: "scenes:large-tuned", quantization: nf4, train: null}
  - {name: small, model: "scenes:small", tuning: full, train: {max_steps: 500}}
train: {max_steps: 300, learning_rate: 1e-3}
```

- **Levels.** The first level is the apex, the last the base: the one to deploy. They are trained top-down.
  `train: null` marks a level that comes ready. Another level's `train` holds only what differs for it from
  the top-level `train`.
- **Models.** A folder, a run folder (its student, or with `level` another level of it), a hub id with an
  optional `@revision`, or `scenes:NAME` for one of the bundled models.
- **The hub.** Settings, tokenizers and safetensors are downloaded, never pickles or code. Before anything
  is, the levels are checked against the device and the free space; what is missing is listed at once (exit
  7). With `HF_HUB_OFFLINE=1` the cache is all that is used, and no connection is tried. The run's
  `manifest.json` keeps the commit of each model: a resume, and adapters trained on it, go on with that one.
- **Stage two.** A recipe of `hkd distill-refine` has the same blocks, with `refine` in place of `distill`.
  All levels but the last come ready.
- **Variants.** `augment` shows records in a new variant each time; `hkd augment` has a recipe of its own
  ([augmentation](augment.md)).
- **Data.** `scenes` draws records; `file` reads them (with `images` for the folder of the photos). Paths
  are relative to the folder in which `hkd` is started.
- **Changes.** `hkd distill-online recipe.yaml train.max_steps=10 pyramid.small.tuning=full` changes a
  recipe for one run. A place in a list is given by number, `pyramid[1]` or `pyramid.1`, or by the level's
  name. The value is YAML.
- **What ran.** The run folder keeps `recipe.resolved.yaml`: every field with its value and its meaning. It
  is a recipe itself.
- **YAML, strictly.** Numbers and booleans follow YAML 1.2: `1e-5` is a number; `no`, `on` and `012` are
  texts. Repeated keys, tags and unknown keys are refused; every problem is reported at once. A text that
  looks like a number needs quotes.
- **Secrets.** A recipe needs none: the hub token comes from `HF_TOKEN`. What looks like a secret is masked
  wherever a recipe is shown or stored.
- **Editors.** `hkd schema > recipe.schema.json` (`hkd schema distill-refine` and `hkd schema augment` for the
  others), then begin a recipe with `# yaml-language-server: $schema=recipe.schema.json`.
"""


def main() -> int:
    """Write the pages, or check them; returns the exit code."""
    pages = {
        DOCS / "cli.md": render_cli(),
        DOCS / "recipes.md": render_recipes(),
        README: render_readme(),
        AUGMENT: render_augment(),
        CHOOSING: render_choosing(CHOOSING.read_text("utf-8")),
    }
    if "--check" in sys.argv[1:]:
        stale = [
            path for path, text in pages.items() if not path.is_file() or path.read_text("utf-8") != text
        ]
        for path in stale:
            print(f"{path} is stale; run: python docs/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return 0


def render_cli() -> str:
    """The command line as Markdown."""
    lines = ["# The command line", "", "Generated from the app by `docs/generate.py`; do not edit.", ""]
    command: Any = get_command(app)
    for name, child in command.commands.items():
        lines += _render_command(name, child)
    lines += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join(lines) + "\n"


def _render_command(name: str, command: Any) -> Iterator[str]:
    yield from (f"## hkd {name}", "", command.help, "", "```", *EXAMPLES[name], "```", "")
    if command.params:
        yield from ("| option | meaning | default |", "|---|---|---|")
    for param in command.params:
        option = param.param_type_name == "option"
        title = ", ".join(param.opts) if option else (param.metavar or param.name.upper())
        yield f"| {_names(title)} | {_cell(param.help)} | {_cell(_default(param))} |"
    yield ""


def _names(title: str) -> str:
    """A name, or names that stand for one place, as code: a bar in code would end the cell."""
    return " or ".join(_code(name) for name in title.split("|"))


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if isinstance(getattr(param, "show_default", None), str):
        return str(param.show_default)
    return "" if param.default in (None, False) else str(param.default)


def render_readme() -> str:
    """README.md with its file tree as the modules' own first lines say it."""
    package = README.parent / "hkdcli"
    lines = ["```"]
    for folder in (package, *sorted(path.parent for path in package.glob("*/__init__.py"))):
        lines.append(f"{folder.relative_to(README.parent)}/")
        lines += [f"  {path.name:<18} {_first_line(path)}" for path in sorted(folder.glob("*.py"))]
    return replace_part(README.read_text("utf-8"), TREE_BEGIN, TREE_END, [*lines, "```"])


def render_augment() -> str:
    """docs/augment.md with its table of operations, as their docstrings and the policies say it."""
    policies = [build_policy(name).probabilities for name in ("light", "standard", "strong")]
    lines = ["| operation | what it does | not where a record speaks of | light | standard | strong |"]
    lines.append("|---|---|---|---|---|---|")
    for name, operation in get_operations().items():
        often = " | ".join(f"{probabilities[name]:g}" for probabilities in policies)
        topics = ", ".join(operation.may_falsify) or "-"
        lines.append(f"| {_code(name)} | {_cell(operation.summary)} | {topics} | {often} |")
    return replace_part(AUGMENT.read_text("utf-8"), TABLE_BEGIN, TABLE_END, lines)


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.split("\n")[0].removesuffix(".")


def render_recipes() -> str:
    """Every field of a recipe as Markdown, after the notes on how to write one."""
    lines = [HOW_TO.strip(), "", "## Every field", "", *_render_fields(Recipe), ""]
    lines += ["## What stage two refines", "", "In place of `distill`; all other fields are those above.", ""]
    lines += [*_render_fields(RefineRecipe, "refine"), ""]
    lines += ["## What `hkd augment` makes", "", "A recipe of its own, of one dataset.", ""]
    return "\n".join([*lines, *_render_fields(AugmentRecipe)]) + "\n"


def _render_fields(kind: type[RecipePart], block: str = "") -> list[str]:
    """The fields of a block, or of a whole recipe, as a table."""
    lines = ["| field | values | default | meaning |", "|---|---|---|---|"]
    for key, field in iterate_fields(kind):
        repeated = key.startswith(tuple(f"{block}." for block in REPEATED))
        if key.startswith(block) and not repeated:
            default = json.dumps(field["default"]) if "default" in field else ""
            lines.append(f"| {_code(key)} | {_values(field)} | {default} | {_cell(_meaning(key, field))} |")
    return lines


def _meaning(key: str, field: dict[str, Any]) -> str:
    same = f" Its fields are those of `{REPEATED[key]}`." if key in REPEATED else ""
    return field["description"] + same


def _values(field: dict[str, Any]) -> str:
    """What a field takes, in words: its choices, its type and bounds; a block shows nothing."""
    options = field.get("anyOf") or field.get("oneOf") or [field]
    return _cell(" or ".join(word for option in options if (word := _value(option))))


def _value(option: dict[str, Any]) -> str:
    if "enum" in option or "const" in option:
        return ", ".join(map(str, option.get("enum", [option.get("const")])))
    if "$ref" in option:
        return "block"
    if option.get("type") == "array":
        return f"list of {_value(option['items'])}"
    word = {"integer": "whole number", "string": "text", "boolean": "true, false"}.get(
        option["type"], option["type"]
    )
    names = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {option[name]}" for name, sign in names.items() if name in option]
    return " ".join([word, ", ".join(bounds)]).strip()


def _code(text: str) -> str:
    return f"`{text}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
