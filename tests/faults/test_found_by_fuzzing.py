"""Inputs that once came out of a reader as another error than its own, each as small as it could be made.

Rows D27, C05, C08, M03, M04 and others: a case names the target of `benchmarks/faults` that reads it.
"""

import io
import json
import sys
import zipfile
from pathlib import Path

import pyarrow
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "faults"))
from fuzz_models import SMALL, make_adapter_files
from fuzz_records import make_arrow_files
from fuzz_runs import MANIFEST, PYRAMID, make_checkpoint_files
from fuzz_settings import RECIPES
from fuzz_targets import collect_targets, run_input
from safetensors.torch import load, save

from hkdcli import recipe_file
from hkdcli.data import columns
from hkdcli.data.json_text import iterate_json
from hkdcli.distill.record_file import RecordFile, make_record_file
from hkdcli.errors import BadRow, DataError, RecipeError
from hkdcli.recipe import Recipe
from hkdcli.safe_yaml import parse_yaml

TARGETS = collect_targets()
DEEP = b"[" * 100_000
TWICE = b'"normalized": false'
TOKENIZER = (SMALL / "tokenizer.json").read_bytes()
RECIPE = (RECIPES / "quickstart.yaml").read_bytes()


def write(value):
    return json.dumps(value).encode()


def change_run(**changes):
    """A run's manifest whose first level says something else."""
    pyramid = [{**PYRAMID[0], **changes}, *PYRAMID[1:]]
    return write({**MANIFEST, "recipe": {**MANIFEST["recipe"], "pyramid": pyramid}})


def change_adapter(**changes):
    return write({**json.loads(make_adapter_files()[0][1]), **changes})


def change_tensors(name, change):
    """A file of a checkpoint, its tensors changed."""
    tensors = load(dict(make_checkpoint_files())[name])
    return save({key: change(tensor) for key, tensor in tensors.items()})


def name_member_badly():
    """A zip file that says of a name that it is UTF-8, which it is not."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("\u00e9", "")
    return buffer.getvalue().replace("\u00e9".encode(), b"\xff\xff")


def break_offsets():
    """Arrow columns whose first text is said to end far behind the data."""
    table = pyarrow.table({"id": pyarrow.array(["a" * 7, "b"])})
    buffer = io.BytesIO()
    with pyarrow.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    offsets = b"".join(place.to_bytes(4, "little") for place in (0, 7, 8))
    assert buffer.getvalue().count(offsets) == 1
    return buffer.getvalue().replace(offsets, b"\0\0\0\0\xff\xff\xff\x7f\x08\0\0\0")


# What came out, target, variant, content.
CASES = [
    ("RecursionError", "lock file", "file", b"[" * 3000),
    ("RecursionError", "run", "manifest.json", DEEP),
    ("RecursionError", "run", "manifest.json", change_run(more=json.loads("[" * 900 + "]" * 900))),
    ("TypeError", "run", "manifest.json", change_run(name=["base"])),
    (
        "KeyError",
        "run",
        "manifest.json",
        write({"recipe": {"pyramid": [{"name": "top", "train": None}] * 2}}),
    ),
    ("AssertionError", "run", "manifest.json", change_run(model=1)),
    ("AttributeError", "run", "student/base.json", b"[1]"),
    ("RecursionError", "run", "student/base.json", DEEP),
    ("IndexError", "run", "student/README.md", b"---\nlicense: !!int ''\n---\n"),
    ("AttributeError", "run", "student/README.md", b"---\nlicense: !!timestamp x\n---\n"),
    ("RecursionError", "checkpoint", "MANIFEST.json", DEEP),
    ("ValueError", "checkpoint", "MANIFEST.json", write({**MANIFEST, "step": "x", "files": {}})),
    ("KeyError", "checkpoint", "MANIFEST.json", write({**MANIFEST, "files": {}})),
    ("ValueError", "checkpoint", "MANIFEST.json", write({**MANIFEST, "step": 3, "files": {"\0": ""}})),
    ("RecursionError", "checkpoint", "progress.json", DEEP),
    ("TypeError", "checkpoint", "progress.json", b'{"step": "3"}'),
    ("AssertionError", "checkpoint", "progress.json", b'{"step": -1}'),
    ("AssertionError", "checkpoint", "progress.json", b'{"step": 3, "seconds": NaN}'),
    (
        "RuntimeError",
        "checkpoint",
        "random.safetensors",
        change_tensors("random.safetensors", lambda t: t[:9]),
    ),
    (
        "TypeError",
        "checkpoint",
        "random.safetensors",
        change_tensors("random.safetensors", lambda t: t.float()),
    ),
    (
        "RuntimeError",
        "checkpoint",
        "optimizer.safetensors",
        change_tensors("optimizer.safetensors", lambda t: t[:1].clone() if t.dim() else t),
    ),
    ("AssertionError", "log", "file", DEEP + b"\n"),
    ("TypeError", "log", "file", b'{"level": "base", "seconds": "x", "step": 1}\n'),
    ("KeyError", "log", "file", b'{"level": "base", "seconds": 1}\n'),
    ("ZeroDivisionError", "log", "file", b'{"level": "base", "seconds": 1, "step": 0}\n'),
    ("RecursionError", "teacher check", "file", DEEP),
    (
        "OverflowError",
        "teacher check",
        "file",
        b'{"split": "dev", "records": 4, "quantization": "nf4", "micro_f1": 1' + b"0" * 400 + b"}",
    ),
    ("RecursionError", "unfinished variants", "unfinished.json", DEEP),
    ("RecursionError", "unfinished variants", "manifest.partial.jsonl", DEEP + b"\n"),
    ("KeyError", "unfinished variants", "manifest.partial.jsonl", b"{}\n{}\n"),
    ("RecursionError", "unfinished variants", "unfinished.json", b'{"a":' * 900 + b"0" + b"}" * 900),
    ("RecursionError", "model folder", "config.json", DEEP),
    ("AttributeError", "model folder", "model.safetensors.index.json", b'{"weight_map": []}'),
    ("TypeError", "model folder", "model.safetensors.index.json", b'{"weight_map": {"a": 1, "b": "x"}}'),
    ("OSError", "model folder", "model.safetensors.index.json", write({"weight_map": {"a": "x" * 300}})),
    (
        "StrictDataclassFieldValidationError",
        "model config",
        "config.json",
        b'{"model_type": "llama", "vocab_size": "x"}',
    ),
    ("TypeError", "model config", "config.json", b'{"model_type": "llava", "text_config": 1}'),
    ("AttributeError", "adapter", "adapter_config.json", change_adapter(init_lora_weights=5)),
    ("TypeError", "adapter", "adapter_config.json", change_adapter(target_parameters="x")),
    ("re.error", "adapter", "adapter_config.json", change_adapter(exclude_modules="(")),
    ("AttributeError", "prompt file", "MANIFEST.json", b'{"files": [1]}'),
    ("RecursionError", "prompt file", "prompt.json", DEEP),
    ("OSError", "prompt file", "MANIFEST.json", write({"files": {"x" * 300: ""}})),
    ("Exception", "processor", "tokenizer.json", TOKENIZER.replace(TWICE, TWICE + b", " + TWICE, 1)),
    ("ValueError", "yaml", "text", b'"\\U00110000"'),
    ("OverflowError", "yaml", "text", b'"\\UFFFFFFFF"'),
    ("ValueError", "yaml", "text", b"%YAML 1." + b"9" * 5000 + b"\n--- 1"),
    ("OverflowError", "recipe", "distill-online", b'name: "\\UFFFFFFFF"'),
    ("ValueError", "recipe", "distill-online", RECIPE + "\0pyramid.\u00b2.model=x".encode()),
    ("ValueError", "recipe", "distill-online", RECIPE + b"\0pyramid." + b"9" * 5000 + b".model=x"),
    ("RecursionError", "arrow folder", "state.json", DEEP),
    ("a dead process", "arrow folder", make_arrow_files()[1][0], break_offsets()),
    ("UnicodeDecodeError", "submission", "zip", name_member_badly()),
]


@pytest.mark.parametrize(("was", "name", "variant", "content"), CASES)
def test_d27_found_inputs_are_read_or_refused(was, name, variant, content, tmp_path):
    target = TARGETS[name]
    run_input(target, bytes([target.variants.index(variant)]) + content, tmp_path)


# What took time or memory beyond measure: the sizes are such that the tests would not end in minutes.


def test_d06_a_key_twice_is_found_among_many():
    text = "{" + ",".join(f'"{place}":0' for place in range(50_000)) + ',"49999":0}'
    (row,) = iterate_json(text, "r.json")
    assert isinstance(row, BadRow) and row.code == "data.duplicate_key"


def test_c07_of_many_unknown_keys_the_first_are_told_what_was_meant(monkeypatch):
    asked = []
    monkeypatch.setattr(recipe_file, "_suggest_key", lambda steps, kind: asked.append(steps) or "; so and so")
    text = RECIPE.decode() + "".join(f"k{place}: 1\n" for place in range(200))
    with pytest.raises(RecipeError) as error:
        recipe_file.build_recipe(text, Recipe)
    assert len(error.value.problems) == 200 and len(asked) == 50
    assert {problem.detail for problem in error.value.problems[50:]} == {"unknown key"}


def test_c05_a_text_of_many_values_is_given_up():
    value, (problem,) = parse_yaml("[" + "a," * 200_000 + "]")  # of which PyYAML makes 400,000 tokens
    assert value is None and "more than 20000 values" in problem.detail and "column 4" in problem.detail


def test_m04_records_whose_payload_is_damaged_are_hashed_once(tmp_path):
    """Headers that hold, one after another, each of a payload that reaches to the end of the file."""
    import hashlib
    import struct
    import zlib

    count, size = 4_000, 84
    path = tmp_path / "a.records"
    make_record_file(path)
    blocks = [b"x"]
    for place in range(count):
        core = struct.pack("<Q32s", (count - place - 1) * size, bytes(32)) + hashlib.sha256(b"").digest()
        blocks.append(b"hkdsig1\n" + struct.pack("<I", zlib.crc32(core)) + core)
    assert {len(block) for block in blocks[1:]} == {size}
    path.write_bytes(b"".join(blocks))
    hashed = []
    digest = hashlib.sha256

    def count_calls(*args):
        hashed.append(args)
        return digest(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "sha256", count_calls)
        found = RecordFile(path, b"seed")
    assert list(found) == [] and found.end < path.stat().st_size and len(hashed) < 10


def test_d27_a_text_that_stands_in_every_row_is_counted_in_each(tmp_path, monkeypatch):
    from pyarrow import parquet

    monkeypatch.setattr(columns, "MAX_BYTES", 2**20)
    table = pyarrow.table({"id": ["x" * 10_000] * 1_000})
    parquet.write_table(table, tmp_path / "r.parquet", compression="zstd")
    assert (tmp_path / "r.parquet").stat().st_size < 20_000
    with pytest.raises(DataError, match="bytes of rows"):
        list(columns.iterate_parquet(tmp_path / "r.parquet"))
