"""Whole runs of stage two on tiny models of several families: live, stored, shared out, refused."""

import json
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from test_adapters_as_levels import Heard
from tiny_families import save_smolvlm
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.engine import distill_online, distill_refine, plan_distillation, store_signals
from hkdcli.errors import GateError, ModelError, RecipeError, UsageError
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.reporter import SilentReporter

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 6}}, test: {scenes: {split: test, size: 2}}}
pyramid:
  - {name: top, model: TOP}
  - {name: middle, model: MIDDLE}
  - {name: base, model: BASE, tuning: full}
refine: {teacher_check: null, min_truth: 0.0, states: {layers: 2, grid: 2}}
train: {max_steps: 4, micro_batch_size: 3, learning_rate: 1e-2, log_every: 1}
runtime: {device: cpu, dtype: float32}
"""
TIMELESS = ("seconds", "tokens_per_s", "peak_memory_gib")

# Teacher, assistant, student: of different width, depth, and number of image tokens.
FAMILIES = {
    "llava": (
        partial(save_tiny_llava, seed=5, hidden_size=48, layers=4, image_size=32),
        partial(save_tiny_llava, seed=6, layers=3),
        save_tiny_llava,
    ),
    "qwen2.5-vl": (
        partial(save_tiny_qwen, seed=5, hidden_size=64, layers=4, max_pixels=64 * 64, vocab_size=456),
        partial(save_tiny_qwen, seed=6, layers=3),
        save_tiny_qwen,
    ),
    "smolvlm": (
        partial(save_smolvlm, seed=5, split=True, hidden_size=48, num_hidden_layers=4),
        partial(save_smolvlm, seed=6, num_hidden_layers=3),
        save_smolvlm,
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=list(FAMILIES))
def trio(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trio")
    names = ("top", "middle", "base")
    return [save(folder / name) for save, name in zip(FAMILIES[request.param], names, strict=True)]


@pytest.fixture(scope="module")
def llavas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llavas")
    names = ("top", "middle", "base")
    return [save(folder / name) for save, name in zip(FAMILIES["llava"], names, strict=True)]


def write_recipe(folder, models, text=RECIPE):
    for name, model in zip(("TOP", "MIDDLE", "BASE"), models, strict=True):
        text = text.replace(name, str(model))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def run(folder, models, *overrides, reporter=None, **options):
    recipe = write_recipe(folder, models)
    outcome = distill_refine(
        recipe, overrides, out=folder / "run", reporter=reporter or SilentReporter(), **options
    )
    return outcome.document


@pytest.fixture(scope="module")
def full_store(llavas, tmp_path_factory):
    """A store of all that the recipe asks for, as an override; nobody writes into it."""
    folder = tmp_path_factory.mktemp("store")
    store = f"refine.store={folder / 'store'}"
    store_signals(write_recipe(folder, llavas), [store], out=folder / "x")
    return store


@pytest.fixture(scope="module")
def finished(llavas, tmp_path_factory):
    """A run that has ended; copy it."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, llavas)
    return folder / "run"


def read_log(folder):
    rows = [json.loads(line) for line in (folder / "run/log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMELESS} for row in rows]


@pytest.mark.parametrize("top_k", ["null", "8"])
def test_stored_and_live_signals_give_the_same_losses(trio, tmp_path, top_k):
    changes = (f"refine.response.top_k={top_k}", "refine.snapshot=true")
    logs = []
    for signals in ("stored", "live"):
        document = run(tmp_path / signals, trio, *changes, f"refine.signals={signals}")
        logs.append(read_log(tmp_path / signals))
        assert [row["level"] for row in document["scores"]] == [
            "constant answer",
            "top",
            "middle",
            "base.before",
            "base",
        ]
    stored, live = logs
    assert len(stored) == 4 and stored[-1]["loss"] < stored[0]["loss"]
    names = {"response", "feature", "relation", "believed_top", "believed_middle", "believed_snapshot"}
    assert names < set(stored[0])
    for row, expected in zip(stored, live, strict=True):
        for name in expected.keys() - {"level"}:
            # What else is in a batch decides the last bits of a number.
            assert row[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-6), name
    assert not (tmp_path / "live/run/signals").exists()


def test_the_result_is_an_ordinary_model_without_projections(trio, tmp_path):
    run(tmp_path, trio)
    student = tmp_path / "run/student"
    before, after = load_file(trio[2] / "model.safetensors"), load_file(student / "model.safetensors")
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    (checkpoint,) = (tmp_path / "run/levels/2-base/checkpoints").glob("step-*")
    kept = load_file(checkpoint / "weights.safetensors")
    assert "objective.projections" in kept  # learned beside the student, and left in the training
    loaded = load_model(student)
    model = AnswerModel(loaded.model).eval()
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    logits = model(batch).logits
    for name, parameter in loaded.model.named_parameters():
        if (key := f"student.model.{name}") in kept:
            parameter.data.copy_(kept[key])
    assert torch.equal(model(batch).logits, logits)


def test_a_student_with_adapters_is_refined_from_the_run_of_stage_one(llavas, tmp_path):
    """Levels of a run by name: the base's adapter learns further, the middle level assists."""
    online = """
name: online
data: {train: {scenes: {split: train, size: 6}}, test: {scenes: {split: test, size: 2}}}
pyramid:
  - {name: top, model: TOP, train: null}
  - {name: middle, model: MIDDLE, tuning: {lora: {rank: 2}}}
  - {name: base, model: BASE, tuning: {lora: {rank: 3}}}
distill: {teacher_check: null}
train: {max_steps: 1, micro_batch_size: 3, learning_rate: 1e-2}
runtime: {device: cpu, dtype: float32}
"""
    recipe = write_recipe(tmp_path / "one", llavas, online)
    first = tmp_path / "one/run"
    distill_online(recipe, (), out=first)
    levels = "pyramid=[{name: top, model: ONE, level: top}, {name: middle, model: ONE, level: middle}, "
    levels += "{name: base, model: ONE}]"
    heard = Heard()
    changes = (levels.replace("ONE", str(first)), "refine.feature.weight=0.5")
    document = run(tmp_path / "two", llavas, *changes, reporter=heard)
    assert any("that adapter's own LoRA settings" in note for note in heard.notes)
    before, after = (
        load_file(place / "student/adapter_model.safetensors") for place in (first, tmp_path / "two/run")
    )
    assert before.keys() == after.keys() and any(
        not torch.equal(before[name], after[name]) for name in before
    )
    keys = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "two").rglob("key.json")}
    assert keys["middle"]["adapter"] is not None and keys["top"]["adapter"] is None
    # And a level of the second run can be named in turn, though it stands in the first.
    third = ("pyramid=[{name: m, model: TWO, level: middle}, {name: base, model: TWO}]",)
    again = plan_distillation(
        "distill-refine", tmp_path / "two/recipe.yaml", [third[0].replace("TWO", str(tmp_path / "two/run"))]
    )
    assert again.document["pyramid"][0]["model"] == str(first / "levels/1-middle/adapter")
    assert document["student"] == str(tmp_path / "two/run/student")


def test_signals_are_stored_once_and_shared(llavas, tmp_path):
    """By shards, before the run, and by a run with other parts; the size is told before and after."""
    recipe, store = write_recipe(tmp_path, llavas), f"refine.store={tmp_path / 'store'}"
    heard = Heard()
    for index in (1, 0):
        rows = store_signals(
            recipe, [store, "train.micro_batch_size=2"], shard=(index, 2), out=tmp_path / "x", reporter=heard
        ).document["signals"]
    assert [(row["upper"], row["records"]) for row in rows] == [("top", 6), ("middle", 6)]
    assert rows[0]["bytes_per_record"] > rows[1]["bytes_per_record"] > 100  # states of the first alone
    assert {path.name for path in (tmp_path / "store/top").glob("*.records")} == {
        "1-of-2.records",
        "2-of-2.records",
    }
    assert any("before, " in note and "has 0 records" in note for note in heard.notes)
    assert any("now, " in note and "has 6 records" in note for note in heard.notes)
    assert not (tmp_path / "x").exists()
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.records")}
    heard = Heard()
    run(tmp_path, llavas, store, "refine.relation=null", reporter=heard)
    assert sum("complete, " in note for note in heard.notes) == 2
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.records")} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("refine.response.temperature=2.0", "signal.temperature was 1.0, is 2.0"),
        ("refine.response.top_k=5", "signal.top_k was 64, is 5"),
        ("pyramid.top.quantization=int8", 'quantization was "none", is "int8"'),
        ("refine.states.grid=3", "signal.states.grid was 2, is 3"),
    ],
)
def test_a_store_of_other_signals_is_refused_with_the_difference(llavas, full_store, tmp_path, change, said):
    with pytest.raises(UsageError) as error:
        run(tmp_path, llavas, full_store, change)
    assert said in " ".join(str(error.value).split())
    assert "refine.store" in error.value.hint


def test_a_check_of_other_records_does_not_count(llavas, tmp_path):
    """What was found stays with the stored signals, and is asked anew where the sample is another."""
    store = f"refine.store={tmp_path / 'store'}"
    path = tmp_path / "store/top/teacher_check.json"
    found = []
    for place, check in enumerate(("null", "{size: 3, on_fail: warn}", "{size: 5, on_fail: warn}")):
        run(tmp_path / str(place), llavas, store, f"refine.teacher_check={check}")
        found.append(json.loads(path.read_text())["records"] if path.exists() else None)
    assert found == [None, 3, 5]  # though the store was full from the first run on


def test_only_signals_of_a_live_recipe_are_refused(llavas, tmp_path):
    with pytest.raises(UsageError, match="stores no signals"):
        store_signals(write_recipe(tmp_path, llavas), ["refine.signals=live"], out=tmp_path / "run")


def test_another_checkpoint_has_another_key(llavas, full_store, tmp_path):
    other = save_tiny_llava(tmp_path / "other", seed=7, hidden_size=48, layers=4, image_size=32)
    with pytest.raises(UsageError, match="model  was "):
        run(tmp_path, [other, *llavas[1:]], full_store)


def test_an_upper_model_of_another_family_assists_by_choice(llavas, tmp_path):
    other = save_tiny_qwen(tmp_path / "other")
    models = (llavas[0], other, llavas[2])
    with pytest.raises(ModelError, match="only by choice"):
        run(tmp_path / "tokens", models)
    run(tmp_path / "choice", models, "refine.response.choice_weight=0.5")
    first = read_log(tmp_path / "choice")[0]
    assert first["response"] > 0 and first["response_choice"] > 0
    with pytest.raises(ModelError, match="no tokens in common"):
        run(tmp_path / "states", (other, *llavas[1:]), "refine.response.choice_weight=0.5")


def test_an_upper_model_that_knows_nothing_is_refused_before_anything_is_stored(llavas, tmp_path):
    with pytest.raises(GateError, match="top is no better a teacher"):
        run(tmp_path, llavas, "refine.teacher_check={size: 4}")
    assert not list((tmp_path / "run").rglob("*.records"))
    warned = run(tmp_path / "b", llavas, "refine.teacher_check={size: 4, on_fail: warn}")
    assert warned["scores"]
    assert (tmp_path / "b/run/signals/top/teacher_check.json").is_file()


def test_overwrite_keeps_signals_and_a_finished_run_is_only_scored_again(llavas, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    stored = (tmp_path / "run/signals/top/1-of-1.records").stat().st_mtime_ns
    heard = Heard()
    run(tmp_path, llavas, resume=True, reporter=heard)
    assert any("refined already" in note for note in heard.notes)
    heard = Heard()
    run(tmp_path, llavas, overwrite=True, reporter=heard)
    assert sum("complete, " in note for note in heard.notes) == 2
    assert (tmp_path / "run/signals/top/1-of-1.records").stat().st_mtime_ns == stored


def test_overwrite_replaces_signals_that_do_not_fit_any_more(llavas, finished, tmp_path):
    """Those of a run's own folder: what several runs share is never removed."""
    shutil.copytree(finished, tmp_path / "run")
    heard = Heard()
    changed = "refine.states.grid=3"
    run(tmp_path, llavas, changed, overwrite=True, reporter=heard)
    assert [note for note in heard.notes if "are removed" in note] == [
        "signals of top: others were stored; they are removed"
    ]
    assert sum("complete, " in note for note in heard.notes) == 1
    with pytest.raises(UsageError, match="not those asked for"):
        run(tmp_path, llavas, f"refine.store={tmp_path / 'run/signals'}", overwrite=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("pyramid.top.train={max_steps: 3}", "only the last level is trained in stage two"),
        ("refine={response: null, feature: null, relation: null}", "nothing would be refined"),
        ("pyramid=[{name: base, model: x}]", "there is no level above the student"),
        ("distill.temperature=2", "it belongs to a recipe of hkd distill-online"),
        ("refine.response.choice_weight=1", "1 compares no tokens, so top_k does nothing"),
        ("pyramid.top.weight=2.0", "weight and tuning say nothing of a level that teaches"),
        ("pyramid.top.name=snapshot", "no level can be called snapshot"),
        ("refine.response.temperature=1e300", "must be at most 100"),
        ("refine.states.grid=1000", "must be at most 64"),
        ("refine.kappa=1e-320", "must be at least 0.001"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(llavas, tmp_path, change, said):
    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        run(tmp_path, llavas, change)


def test_a_dry_run_and_a_run_refuse_other_signals_before_the_folder_is_claimed(llavas, tmp_path):
    recipe = write_recipe(tmp_path, llavas)
    store_signals(recipe, out=tmp_path / "run")
    change = "refine.states.grid=3"
    with pytest.raises(UsageError, match="not those asked for"):
        plan_distillation("distill-refine", recipe, [change], out=tmp_path / "run")
    with pytest.raises(UsageError, match="not those asked for"):
        run(tmp_path, llavas, change)
    assert not (tmp_path / "run/manifest.json").exists()
    run(tmp_path, llavas)


def test_overwriting_a_run_that_is_named_through_another_is_refused(llavas, finished, tmp_path):
    """And runs that name each other are told of, instead of being followed for ever."""
    shutil.copytree(finished, tmp_path / "one/run")
    first, second = tmp_path / "one/run", tmp_path / "two/run"
    levels = "pyramid=[{name: top, model: FIRST, level: top}, {name: base, model: FIRST}]"
    run(tmp_path / "two", llavas, levels.replace("FIRST", str(first)))
    chain = levels.replace("FIRST", str(second))
    moved = f"pyramid=[{{name: top, model: {first}, level: base}}, {{name: base, model: {second}}}]"
    run(tmp_path / "three", llavas, moved)
    third = tmp_path / "three/run"
    with pytest.raises(UsageError, match="--overwrite would remove"):
        distill_refine(
            write_recipe(tmp_path / "four", llavas),
            [f"pyramid=[{{name: top, model: {third}, level: top}}, {{name: base, model: {second}}}]"],
            out=first,
            overwrite=True,
        )
    assert (first / "student").is_dir()
    document = json.loads((first / "manifest.json").read_text())
    document["recipe"]["pyramid"][0] |= {"model": str(second), "level": "top"}
    (first / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="says it is in this one"):
        plan_distillation("distill-refine", write_recipe(tmp_path / "five", llavas), [chain])


def test_a_student_of_a_run_that_is_not_finished_is_told_of(llavas, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "one/run")
    (tmp_path / "one/run/student").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="level base is not trained yet"):
        run(tmp_path / "two", (*llavas[:2], tmp_path / "one/run"))


def test_a_dry_run_tells_who_refines_the_student(llavas, tmp_path):
    recipe = write_recipe(tmp_path, llavas)
    plan = plan_distillation("distill-refine", recipe, ["refine.snapshot=true"])
    assert [level["taught by"] for level in plan.document["pyramid"]] == [
        "-",
        "-",
        "top and middle and its snapshot",
    ]
    assert not (tmp_path / "run").exists()
