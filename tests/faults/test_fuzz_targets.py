"""Every target of the fuzzing reads what is valid, withstands what is damaged, and tells of a broken reader.

Rows I04, D03, D27, C05, M03, M04: what they promise of a few inputs is tried here with some of any kind;
`benchmarks/faults/fuzz.py` tries hundreds of thousands.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "faults"))
import fuzz
from fuzz_damage import draw_damaged
from fuzz_targets import collect_targets, run_input

FAULTS = Path(fuzz.__file__).parent
TARGETS = collect_targets()
SLOW = ("adapter", "processor", "model config")  # libraries that take tens of milliseconds an input
each_target = pytest.mark.parametrize("name", TARGETS)


@each_target
def test_valid_inputs_are_read_to_their_end(name, tmp_path):
    seeds = TARGETS[name].list_seeds()
    outcomes = {place: run_input(TARGETS[name], seed, tmp_path) for place, seed in enumerate(seeds)}
    assert outcomes and not any(outcomes.values()), outcomes
    assert {seed[0] for seed in seeds} <= set(range(len(TARGETS[name].variants)))


@each_target
def test_d27_damaged_inputs_end_in_errors_of_ours(name, tmp_path):
    target = TARGETS[name]

    @settings(
        max_examples=3 if name in SLOW else 15,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(draw_damaged(target.list_seeds()))
    def try_inputs(data):
        run_input(target, data, tmp_path)

    try_inputs()


@each_target
def test_a_broken_reader_is_an_escape(name, tmp_path, monkeypatch):
    target, seeds = TARGETS[name], TARGETS[name].list_seeds()
    broken = _Broken()
    monkeypatch.setitem(target.read.__globals__, target.reader, broken)
    with pytest.raises(KeyError, match="broken on purpose"):
        run_input(target, seeds[0], tmp_path)


class _Broken:
    """Stands for a function, a class or a module: whatever is called of it fails."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **options):
        raise KeyError("broken on purpose")


def test_the_command_reports_an_escape_with_its_smallest_input(tmp_path):
    """A process that runs the real search on a reader which raises KeyError for every closing bracket."""
    program = tmp_path / "broken.py"
    program.write_text(
        f"import sys; sys.path[:0] = [{str(FAULTS)!r}]\n"
        "import fuzz_engines, fuzz_records\n"
        "from hkdcli.data.examples import read_examples\n"
        "def broken(path, **options):\n"
        "    if b'XX' in path.read_bytes(): raise KeyError('of a bug')\n"
        "    if b'YY' in path.read_bytes(): import os; os.abort()\n"
        "    return read_examples(path, **options)\n"
        "fuzz_records.read_examples = broken\n"
        "from fuzz_engines import Trial\n"
        "from pathlib import Path\n"
        "trial = Trial(fuzz_records.TARGETS['records'], Path(sys.argv[1]))\n"
        "assert trial.try_input(b'\\0[]') is None\n"
        "trial.try_input(b'\\0[ some XX text ]'); trial.reduce_escapes()\n"
        "trial.try_input(b'\\0YY')\n"
    )
    done = subprocess.run([sys.executable, str(program), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -6, done.stderr
    row = {"outcomes": {}, "slowest_s": 0.0, "memory_mib": 0.0}
    row["outcomes"] = fuzz.Counter()
    escapes = {}
    fuzz._add(row, escapes, tmp_path)
    assert list(escapes.values()) == [b"\0XX"] and row["outcomes"]["escaped"]
    assert (tmp_path / "current").read_bytes() == b"\0YY"  # what the process died of
    assert "KeyError" in next(iter(escapes))


def test_an_input_that_takes_too_long_is_an_escape(tmp_path, monkeypatch):
    import fuzz_engines

    monkeypatch.setattr(fuzz_engines, "MOST_CPU_S", 0.05)
    target = TARGETS["yaml"]

    def hang(*args):
        while True:
            pass

    monkeypatch.setitem(target.read.__globals__, "parse_yaml", hang)
    trial = fuzz_engines.Trial(target, tmp_path)
    assert trial.try_input(b"\0a: 1") == "TooSlow in the target"


def test_the_table_adds_up():
    row = {"target": "yaml", "engine": "hypothesis", "inputs": 1200, "outcomes": {"read": 200, "escaped": 1}}
    row |= {"escapes": ["KeyError in x"], "slowest_s": 0.5, "memory_mib": 3.0}
    table = fuzz.render_table([row, {**row, "escapes": []}])
    assert "| yaml | hypothesis | 1,200 | 200 | 1 | 0.50 | 3 |" in table
    assert "| all | | 2,400 | | 1 | 0.50 | |" in table
    assert json.dumps(row)
