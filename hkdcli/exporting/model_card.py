"""The README.md of an exported folder: what the hub reads (front matter), and what a person should know.

It holds no path of this machine and no date, so that the same export gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkdcli.exporting.front_matter import FIGURES, render_front_matter
from hkdcli.exporting.origin import Origin, Run, name_data
from hkdcli.exporting.parity import Parity

FILE_NAME = "README.md"
_CONSTANT = {"constant_micro_f1": "micro-F1 of the best constant answer"}
_KINDS = {
    "merged": "Its adapter is merged into the weights.",
    "whole": "It holds whole weights.",
    "adapter": "It holds a LoRA adapter; the base is needed beside it.",
}
_USE = """## Use

With `hkd`, which scores every legal answer exactly and gives probabilities:

```
hkd infer path/to/this/folder records.json --out predictions.jsonl
```

With plain transformers (the processors of some families need torchvision):

```python
{code}
```"""
_CODE = '''{imports}
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "."  # this folder
processor = AutoProcessor.from_pretrained(folder)
{load}
text = """{prompt}"""
content = [{{"type": "image"}}, {{"type": "text", "text": text}}]
prompt = processor.apply_chat_template([{{"role": "user", "content": content}}], add_generation_prompt=True)
image = Image.open("picture.png").convert("RGB")
inputs = processor(text=[prompt], images=[image], return_tensors="pt")
answer = model.generate(**inputs, max_new_tokens=8, do_sample=False)
print(processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'''
_LIMITS = """## Limits

- It judges one image with one text, in the language and the style of its data; elsewhere it is untested.
- It prefers some letters and positions whatever they say; `hkd infer --shift` averages that out.
- `generate` gives letters without probabilities, and may give none. Prompts of another form are untested.
- A verdict is no proof: people should look at what it decides on."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What a card tells of the folder itself.

    Attributes:
        kind: `merged` (an adapter merged into its base), `whole` (never had one) or `adapter`.
        dtype: number type of the weights, without "torch.".
        quantization: what the source's weights were held in.
        prompt: a user's text as the model was trained on it.
        parity: what the check has seen.
        calibrated: whether there is a calibration.json.
    """

    kind: str
    dtype: str
    quantization: str
    prompt: str
    parity: Parity
    calibrated: bool


def render_card(origin: Origin, exported: Exported) -> str:
    """Render a model card.

    Args:
        origin: where the model comes from.
        exported: what the folder holds.

    Returns:
        Markdown with the front matter of the hub.
    """
    sections = (
        _render_head(origin, exported),
        _render_use(origin, exported),
        _render_making(origin.runs),
        _render_data(origin.runs),
        _render_scores(origin.runs),
        _render_check(exported),
        _render_licence(origin),
        _LIMITS,
    )
    adapter, lora = exported.kind == "adapter", exported.kind != "whole"
    front = render_front_matter(origin, lora=lora, adapter=adapter)
    return "\n\n".join([front.rstrip(), *filter(None, sections)]) + "\n"


def _render_head(origin: Origin, exported: Exported) -> str:
    told = f"Number type: {exported.dtype}."
    if exported.kind == "adapter":
        held = "as it is" if exported.quantization == "none" else f"in {exported.quantization}"
        told = f"It was trained on, and checked with, the base {held}."
    return (
        f"# {_plain(origin.name)}\n\n"
        "A judge of images and text, distilled with `hkd`. It finds the phrases of a caption that an image\n"
        "contradicts (hallucination), and tells whether a claim is true given an image and a context\n"
        "(factuality). It answers with letters.\n\n"
        f"Base model: {_plain(origin.base)}. {_KINDS[exported.kind]} {told}"
    )


def _render_use(origin: Origin, exported: Exported) -> str:
    imports, load = "", "model = AutoModelForImageTextToText.from_pretrained(folder)"
    if exported.kind == "adapter":
        base = origin.base_id or f"path/to/{_plain(origin.base).rpartition(':')[2]}"
        imports = "from peft import PeftModel"
        load = (
            f'base = AutoModelForImageTextToText.from_pretrained("{base}")\n'
            "model = PeftModel.from_pretrained(base, folder)"
        )
    code = _CODE.format(imports=imports, load=load, prompt=exported.prompt)
    return _USE.format(code=code.lstrip())


def _render_making(runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    lines = ["## How it was made", ""]
    for number, run in enumerate(reversed(runs), 1):
        stage = (
            "refinement (`distill-refine`)"
            if "refine" in run.recipe
            else "online distillation (`distill-online`)"
        )
        uppers = ", ".join(map(_describe_level, run.uppers)) or "labels alone"
        tuning = run.level.get("tuning")
        trained = "as it came" if run.level.get("train") is None else f"trained {_describe_tuning(tuning)}"
        if run.level.get("quantization", "none") != "none":
            trained += f" on weights in {_plain(run.level['quantization'])}"
        run_name, level_name = _plain(run.recipe["name"]), _plain(run.level["name"])
        lines.append(
            f"{number}. Run {run_name}, {stage}: level {level_name}, {trained}, above it {uppers}; "
            f"seed {_plain(run.recipe.get('seed'))}."
        )
    versions = runs[0].manifest.get("versions")
    if isinstance(versions, Mapping):
        told = ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in versions.items())
        lines += ["", f"Software: {told}."]
    return "\n".join(lines)


def _describe_level(level: Mapping[str, Any]) -> str:
    names = [Path(str(level[key])).name for key in ("model", "adapter") if level.get(key)]
    held = "" if level.get("quantization", "none") == "none" else f" in {level['quantization']}"
    return f"{_plain(level['name'])} ({_plain(' with '.join(names) + held)})"


def _describe_tuning(tuning: Any) -> str:
    lora = tuning.get("lora") if isinstance(tuning, Mapping) else None
    return "in full" if not isinstance(lora, Mapping) else f"through LoRA of rank {lora.get('rank')}"


def _render_data(runs: Sequence[Run]) -> str:
    if not runs or not runs[0].data:
        return ""
    lines = ["## Data", "", "| split | source | content (sha256) |", "|---|---|---|"]
    hashes = runs[0].manifest.get("data") or {}
    for split, source in runs[0].data.items():
        drawn = source.get("scenes") or {}
        told = "".join(
            f", {name} {_plain(drawn[name])}" for name in ("split", "size", "seed") if name in drawn
        )
        lines.append(f"| {split} | {_plain(name_data(source))}{told} | {str(hashes.get(split, ''))[:16]} |")
    return "\n".join(lines)


def _render_scores(runs: Sequence[Run]) -> str:
    scores = {(task, name): f"{value:.4f}" for run in runs[:1] for task, name, value in run.list_scores()}
    tasks = list(dict.fromkeys(task for task, _ in scores))
    if not tasks:
        return "## Scores\n\nNo score on held-out records is known."
    lines = [f"| metric | {' | '.join(map(_plain, tasks))} |", "|---" * (len(tasks) + 1) + "|"]
    for name, words in ({name: words for name, (_, words) in FIGURES.items()} | _CONSTANT).items():
        lines.append(f"| {words} | {' | '.join(scores.get((task, name), '-') for task in tasks)} |")
    counts = (runs[0].metrics or {}).get("counts") or {}
    told = f"On the test split of its run ({_plain(counts.get('records'))} records), as scored there."
    return "\n".join(["## Scores", "", told, "", *lines])


def _render_check(exported: Exported) -> str:
    parity = exported.parity
    calibrated = " calibration.json holds the calibration of its run." if exported.calibrated else ""
    return (
        f"## Check of the export\n\nOn {parity.records} records of {_plain(parity.data)} this folder, loaded "
        "anew, gave the predictions of the model it was made\nfrom, and log-probabilities of all answers "
        f"within {parity.tolerance} of its.{calibrated}"
    )


def _render_licence(origin: Origin) -> str:
    licence = origin.licence.get("license_name") or origin.licence.get("license")
    told = f"{licence}, as its base {_plain(origin.base)}" if licence else "unknown: see base model"
    return f"## Licence\n\n{told}. The licences of the data, and of the models that taught it, may bind too."


def _plain(text: object) -> str:
    """One line that Markdown and a table take as it is."""
    return re.sub(r"[\s|`<>\[\]*\"\\]+", " ", str(text)).strip()
