"""Whoever prints a command gets it run here: in a cheap form, in a folder that has what it names."""

from __future__ import annotations

import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from printed_commands import RECIPES, ROOT, Command, list_commands, list_inline_commands, split_commands
from quick_plans import of_few_layers, of_few_records, with_one_candidate
from typer.main import get_command

from hkdcli.__main__ import main
from hkdcli.augment import operations
from hkdcli.cli import app
from hkdcli.data.datasets import load_dataset
from hkdcli.data.lock import write_data_lock
from hkdcli.recipe import Recipe
from hkdcli.recipe_augment import AugmentRecipe
from hkdcli.recipe_file import read_recipe
from hkdcli.recipe_schema import KINDS, STAGES

COMMANDS = list_commands()
RECORDS = 2


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it after the quickstart, with records of their own; models are untuned."""
    from hkdcli.scenes.pretrained import SHIPPED
    from hkdcli.scenes.source import load_scenes, write_scenes

    folder = tmp_path_factory.mktemp("workplace")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    write_scenes(folder, load_scenes("test", size=RECORDS))
    (folder / "photos").symlink_to("images")
    records = json.loads((folder / "records.json").read_text())
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    run = folder / "runs" / "quickstart"
    (run / "levels" / "1-medium").mkdir(parents=True)
    recipe = read_recipe(ROOT / "recipes" / "quickstart.yaml", Recipe).model_dump(mode="json")
    (run / "manifest.json").write_text(json.dumps({"recipe": recipe}))
    runs = ("scenes-online/student", "scenes-orders/student")
    for place in ("quickstart/student", "quickstart/levels/1-medium/model", *runs):
        shutil.copytree(SHIPPED / "small", folder / "runs" / place)  # calibration is written into some
    shutil.copy(next((folder / "images").iterdir()), folder / "cat.png")
    write_scenes(folder / "scenes", load_scenes("test", size=4))
    write_scenes(folder / "train", load_scenes("train", size=RECORDS))
    shutil.copytree(folder / "train" / "images", folder / "images", dirs_exist_ok=True)
    for split in ("train", "dev", "test"):
        shutil.copy(folder / "train" / "records.json", folder / f"{split}.json")
    write_predictions(folder, records)
    facts = [{"image_id": record["image_id"], "objects": ["circle"]} for record in records]
    (folder / "facts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in facts))
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "augment.md").read_text(), re.DOTALL)
    (folder / "posterize.py").write_text(block)
    return folder


def write_predictions(folder: Path, records: Sequence[Any]) -> None:
    """Files of predictions under the names that pages use; ids are the same in files and scenes."""
    rows = [{"id": record["id"], "prediction": ["A"]} for record in records]
    for name, more in (("predictions", {}), ("a", {}), ("b", {}), ("blind", {"blind": True})):
        lines = [json.dumps({**row, **more}) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    cells = [f"{row['id']},The answer is A." for row in rows]
    (folder / "answers.csv").write_text("\n".join(["question_id,response", *cells]))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_printed_command_works(
    command: Command, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not command.placeholders, f"{command.where}: nobody can type {command.placeholders}"
    check = choose_check(command.words)
    assert check is not None, f"{command.where}: no test runs `{command}`; teach {Path(__file__).name} how"
    check(command.words, tmp_path)


@pytest.mark.parametrize("command", list_inline_commands(), ids=str)
def test_options_that_sentences_and_tables_name_exist(
    command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where nothing stands for something else, and no file is missing, all of it can be typed."""
    monkeypatch.chdir(workplace)
    group: Any = get_command(app)
    known = {name for param in group.commands[command.words[1]].params for name in param.opts}
    named = {word.partition("=")[0] for word in command.words[2:] if word.startswith("--")}
    assert named <= known, f"{command.where}: {named - known}"
    if command.words[1] in ("init", "plan") and not command.placeholders:
        parse(command.words)


Check = Callable[[Sequence[str], Path], None]


def choose_check(words: Sequence[str]) -> Check | None:
    """How to run such a command; None: nobody knows."""
    if words[0] == "make":
        return check_make
    if words[0] == "hkd":
        return CHECKS.get(words[1], check_plain if words[1].startswith("-") else None)
    if words[1:3] == ("-m", "hkdcli.scenes"):
        return check_scenes
    if words[1:3] == ("-m", "venv"):
        return lambda words, folder: None
    return check_script if words[1].endswith(".py") else None


def check_make(words: Sequence[str], folder: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
    assert wanted and set(wanted) <= set(targets)


def check_plain(words: Sequence[str], folder: Path) -> None:
    assert main(words[1:]) == 0


def check_distill(words: Sequence[str], folder: Path) -> None:
    """The recipe with its changes is read; where its data is at hand, a dry run goes over that too."""
    options = parse(words)
    recipe = read_recipe(options["recipe"], STAGES[words[1]], options["overrides"] or [])
    splits = {name: split for name in ("train", "dev", "test") if (split := getattr(recipe.data, name))}
    if all(split.file is None or Path(split.file).exists() for split in splits.values()):
        few = [f"data.{name}.scenes.size=8" for name, split in splits.items() if split.scenes]
        if "--only-signals" in words:
            few += ["refine.teacher_check=null", "--out", str(folder / "run")]
            assert main([*words[1:], *few]) == 0
            assert list((folder / "run").rglob("*.records"))
        else:
            assert main([*drop_options(words[1:], "--dry-run"), *few, "--dry-run"]) == 0


def check_infer(words: Sequence[str], folder: Path) -> None:
    """Run on a few records, whatever it is that it does with them."""
    options = parse(words)
    if not (is_at_hand(options["model"]) and is_at_hand(options["data"] or "scenes:dev")):
        return
    words = drop_options(words[1:], "--out", "--limit", "--overwrite", with_value={"--out", "--limit"})
    if options["image"] is not None:
        words = drop_options(words, "--evidence", with_value={"--evidence"})
        drawn = ["--evidence", str(folder / "why.png")] if options["evidence"] else []
        assert main([*words, *drawn]) == 0
        assert not drawn or (folder / "why.png").exists()
    elif options["data"] == "-":
        assert len(run_stream(words).splitlines()) == RECORDS
    elif options["calibrate"] is not None and options["data"] is None:
        assert main([*words, "--limit", "60"]) == 0
        assert (options["calibration"] or Path(options["model"], "student", "calibration.json")).exists()
    elif options["target_precision"] is not None:
        place = ["--calibration", str(options["calibration"])] if options["calibration"] else []
        assert main(["infer", options["model"], "--calibrate", "scenes:dev", "--limit", "60", *place]) == 0
        assert main([*words, "--out", str(folder / "p.jsonl")]) == 6  # 60 records promise nothing
    else:
        check_rows(words, folder)


def check_rows(words: Sequence[str], folder: Path) -> None:
    out = folder / "p.jsonl"
    expected = RECORDS // 2 if "--shard" in words else RECORDS
    limit = [] if "--shard" in words else ["--limit", str(RECORDS)]
    assert main([*words, *limit, "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == expected


def run_stream(words: Sequence[str]) -> str:
    """Rows for the records that come through stdin."""
    with open("records.jsonl", "rb") as records:
        command = [sys.executable, "-m", "hkdcli", *words]
        return subprocess.run(command, stdin=records, capture_output=True, text=True, check=True).stdout


def check_augment(words: Sequence[str], folder: Path) -> None:
    """A few records of each command, in one process; a recipe whose data is not here is read."""
    options = parse(words)
    source, out = options["source"], str(folder / "out")
    if source.endswith(".yaml"):
        recipe = read_recipe(Path(source), AugmentRecipe, options["overrides"] or [])
        if recipe.data.file is not None and not Path(recipe.data.file).exists():
            return
        few = ["data.scenes.size=4"] if recipe.data.scenes else []
    elif not is_at_hand(source):
        return
    else:
        few = ["--limit", "2"]
    own = {"--out", "--preview", "--limit", "--nproc"}
    kept = drop_options(words[1:], *own, "--resume", "--overwrite", with_value=own)
    place = ["--out", out] if options["out"] else ["--preview", str(folder / "sheet.png")]
    operations.get_operations()
    with pytest.MonkeyPatch.context() as patch:  # what a command registers is gone after it
        patch.setattr(operations, "REGISTRY", dict(operations.REGISTRY))
        assert main([*kept, *few, *place, "--nproc", "1"]) == 0
    assert (folder / "out" / "augment.json").exists() or (folder / "sheet.png").exists()


def check_merge(words: Sequence[str], folder: Path) -> None:
    """Of shards that are predicted here as the lines before say."""
    options = parse(words)
    shards = [str(folder / shard.name) for shard in options["shards"]]
    for number, shard in enumerate(shards, start=1):
        share = ["--shard", f"{number}/{len(shards)}", "--out", shard]
        assert main(["infer", "scenes:small", options["data"], *share]) == 0
    out = folder / "merged.jsonl"
    assert main(["merge-shards", options["data"], *shards, "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == RECORDS


def check_export(words: Sequence[str], folder: Path) -> None:
    words = drop_options(words[1:], "--out", "--check", with_value={"--out", "--check"})
    assert main([*words, "--out", str(folder / "exported"), "--check", "2"]) == 0
    assert (folder / "exported" / "README.md").exists()


def check_evaluate(words: Sequence[str], folder: Path) -> None:
    """Predictions that are not here are made up; what is written goes elsewhere."""
    options = parse(words)
    if not is_at_hand(options["data"]):
        return
    own = {"--out", "--report", "--per-record"}
    kept = drop_options(words[1:], *own, with_value=own)
    missing = str(options["predictions"])
    kept = ["predictions.jsonl" if word == missing and not Path(word).exists() else word for word in kept]
    reports = [folder / path.name for path in options["report"] or ()]
    more = [word for path in reports for word in ("--report", str(path))]
    if options["per_record"] is not None:
        more += ["--per-record", str(folder / "records.csv")]
    assert main([*kept, *more, "--out", str(folder / "r.json")]) == 0
    assert "micro_f1" in json.loads((folder / "r.json").read_text())["metrics"]
    assert all(path.exists() for path in reports)


def check_compare(words: Sequence[str], folder: Path) -> None:
    kept = drop_options(words[1:], "--out", with_value={"--out"})
    assert main([*kept, "--out", str(folder / "c.json")]) == 0
    assert json.loads((folder / "c.json").read_text())["scores"]["micro_f1"]["difference"] == 0


def check_submit(words: Sequence[str], folder: Path) -> None:
    """A file that is to be checked is written first."""
    options, out = parse(words), str(folder / "results.zip")
    assert main(["submit", "predictions.jsonl", options["sources"][-1], "--out", out]) == 0
    if options["check"] is not None:
        assert main(["submit", "--check", out, *options["sources"]]) == 0


def check_plan(words: Sequence[str], folder: Path) -> None:
    """As printed, but of models with few layers, of few pictures and few drawn records: quicker."""
    stage = "distill-refine" if "refine" in words[2] else "distill-online"
    data = read_recipe(Path(words[2]), STAGES[stage]).data
    drawn = [name for name in ("train", "dev", "test") if getattr(getattr(data, name), "scenes", None)]
    few = [f"data.{name}.scenes.size=20" for name in drawn]
    with of_few_layers() as patch:
        of_few_records(patch)
        assert main([*words[1:], *few, "--out", str(folder / "run")]) == 0


def check_split(words: Sequence[str], folder: Path) -> None:
    """Of enough records that no split is empty, under the names that are printed."""
    options = parse(words)
    kept = drop_options(words[1:], "--out", with_value={"--out"})
    rows = [
        {
            "id": f"{{place}}-{number}",
            "image_id": f"{number}.png",
            "claim": "It is red.",
            "question": "Is it?",
            "choices": [{"id": "A", "choice": "True"}, {"id": "B", "choice": "False"}],
            "correct_choice": "A",
        }
        for number in range(60)
    ]
    for place, file in enumerate(options["files"]):
        made = folder / file.name
        made.write_text(json.dumps(rows).replace("{place}", str(place)))
        kept = [str(made) if word == str(file) else word for word in kept]
    assert main([*kept, "--out", str(folder / "split")]) == 0
    assert {path.name for path in (folder / "split").iterdir()} == {"train.json", "dev.json", "test.json"}


def check_init(words: Sequence[str], folder: Path) -> None:
    """With one small pyramid to choose from, of few layers."""
    kept = drop_options(words[1:], "--out", with_value={"--out"})
    room = [] if "--gpu" in words else ["--gpu", "16"]
    with of_few_layers() as patch:
        with_one_candidate(patch)
        assert main([*kept, *room, "--out", str(folder / "recipe.yaml")]) == 0
    assert read_recipe(folder / "recipe.yaml", STAGES["distill-online"]).pyramid


def check_doctor(words: Sequence[str], folder: Path) -> None:
    """On few drawn records; predictions and locks are made first where records are held against them."""
    options, few = parse(words), []
    if options["predictions"] is not None:
        made = folder / "p.jsonl"
        assert main(["infer", "scenes:small", options["target"], "--out", str(made)]) == 0
        words = [str(made) if word == str(options["predictions"]) else word for word in words]
    if (lock := options["lock_data"] or options["verify_data"]) is not None:
        words = [str(folder / "data.lock") if word == str(lock) else word for word in words]
        if options["verify_data"] is not None:
            write_data_lock(load_dataset(Path(options["target"])), folder / "data.lock")
    if (options["target"] or "").endswith(".yaml"):
        recipe = read_recipe(Path(options["target"]), STAGES["distill-online"], options["overrides"] or [])
        names = [name for name in ("train", "dev", "test") if getattr(recipe.data, name)]
        few = [f"data.{name}.scenes.size=8" for name in names]
    assert main([*words[1:], *few]) == 0


def check_scenes(words: Sequence[str], folder: Path) -> None:
    """Written in a small number, or taught for one step."""
    from hkdcli.scenes import pretraining
    from hkdcli.scenes.__main__ import app as scenes_app

    size = ["--size", str(RECORDS)] if words[3] == "write" else []
    kept = drop_options(words[3:], "--out", "--size", with_value={"--out", "--size"})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SEEING", "ANSWERING"):
            patch.setattr(pretraining, name, dict.fromkeys(pretraining.SEEING, pretraining.Plan(1, 2, 1e-3)))
        scenes_app([*kept, *size, "--out", str(folder / "out")], standalone_mode=False)
    assert list((folder / "out").iterdir())


def check_script(words: Sequence[str], folder: Path) -> None:
    """Our scripts know the options that the command gives them; the docs' own one is run for good."""
    script = ROOT / words[1]
    assert script.is_file()
    try:
        said = call_script(script, "--check" if words[1] == "docs/generate.py" else "--help")
    except ModuleNotFoundError as error:
        pytest.skip(f"{words[1]} needs {error.name}")
    assert all(word.partition("=")[0] in said + "--check" for word in words[2:] if word[:2] == "--")


@cache
def call_script(script: Path, argument: str) -> str:
    """What `python SCRIPT ARGUMENT` says, in this process, which has imported torch; it has to end well."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", [str(script), argument])
        patch.setattr(sys, "path", [str(script.parent), *sys.path])
        patch.setenv("OMP_NUM_THREADS", "1")  # some set it; it is as it was at the end
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
    for name, module in list(sys.modules.items()):  # another script may have a neighbour of the same name
        if (getattr(module, "__file__", None) or "").startswith(f"{script.parent}/"):
            del sys.modules[name]
    assert not ended.value.code, said.getvalue()
    return said.getvalue()


CHECKS: dict[str, Check] = {
    "augment": check_augment,
    "distill-online": check_distill,
    "distill-refine": check_distill,
    "infer": check_infer,
    "compare": check_compare,
    "doctor": check_doctor,
    "evaluate": check_evaluate,
    "export": check_export,
    "init": check_init,
    "merge-shards": check_merge,
    "plan": check_plan,
    "schema": check_plain,
    "split": check_split,
    "submit": check_submit,
}


def parse(words: Sequence[str]) -> dict[str, Any]:
    """What the command line makes of `hkd NAME ...`; unknown options and wrong values fail here."""
    group: Any = get_command(app)
    child = group.commands[words[1]]
    options: dict[str, Any] = child.make_context(words[1], list(words[2:])).params
    return options


def is_at_hand(name: str) -> bool:
    """Whether a model or data source is in the package or the workplace; a hub id is neither."""
    if name.removeprefix("scenes:") in {"train", "dev", "test"}:
        return True
    if name.startswith("scenes:"):
        from hkdcli.scenes.pretrained import SHIPPED

        return (SHIPPED / name.removeprefix("scenes:")).is_dir()
    return Path(name).exists()


def drop_options(
    words: Sequence[str], *names: str, with_value: frozenset[str] | set[str] = frozenset()
) -> list[str]:
    """The words without these options, nor the values of those that have one."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.partition("=")[0] in names:
            skip = word in with_value
        else:
            kept.append(word)
    return kept


# The tests above must be able to fail


def test_there_are_commands() -> None:
    assert {command.words[1] for command in COMMANDS if command.words[0] == "hkd"} >= set(CHECKS)


def test_every_recipe_says_how_to_run_it() -> None:
    """And so is read by a test, with its data where it is drawn."""
    run = {command.words[2] for command in COMMANDS if command.words[1] in KINDS}
    assert {str(recipe.relative_to(ROOT)) for recipe in RECIPES} <= run


@pytest.mark.parametrize(
    "line",
    [
        "hkd infer scenes:small scenes:test --outt p.jsonl",
        "hkd frobnicate",
        "make coffee",
        "python -m antigravity",
    ],
)
def test_a_command_that_does_not_work_is_found(line: str, workplace: Path, tmp_path: Path) -> None:
    (words,) = split_commands(f"$ {line}  # a comment")
    check = choose_check(words)
    if check is not None:
        with pytest.raises((Exception, SystemExit)):
            check(words, tmp_path)


def test_lines_of_shell_are_taken_apart() -> None:
    line = "$ .venv/bin/hkd infer a 'b c' --out p > x.txt 2>&1 && hkd evaluate p b | head -1; make test # now"
    assert list(split_commands(line)) == [
        ("hkd", "infer", "a", "b c", "--out", "p"),
        ("hkd", "evaluate", "p", "b"),
        ("make", "test"),
    ]
    assert not list(split_commands("hkdcli/cli.py  the command line"))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hkd infer MODEL scenes:test", ["MODEL"]),
        ("hkd infer <run> [options] ...", ["<run>", "[options]", "..."]),
        ("hkd infer Qwen/Qwen2.5-VL a[1].json READ.md --out OUT/p PATH=x  # SOME", []),
    ],
)
def test_placeholders_are_found(line: str, found: list[str]) -> None:
    assert Command("page:1", ("hkd",), line).placeholders == found


@pytest.mark.parametrize(
    "line",
    [
        "python -m hkdcli.scenes write test --size 600 --out scenes/test",
        "python -m hkdcli.scenes pretrain small --out seeing/small",
    ],
)
def test_the_scenes_commands_work(line: str, workplace: Path, tmp_path: Path) -> None:
    """Which the module itself prints, not a page."""
    (words,) = split_commands(line)
    check_scenes(words, tmp_path)
