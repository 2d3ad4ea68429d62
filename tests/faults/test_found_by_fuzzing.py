"""Inputs that once came out of a reader as another error than its own, each as small as it was made.

Rows D27, C05, M03, M04 and others: a case names the target of `benchmarks/faults` that reads it.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "faults"))
from fuzz_targets import collect_targets, run_input

TARGETS = collect_targets()
DEEP = b"[" * 100_000

# What came out, target, variant, content.
CASES = []


@pytest.mark.parametrize(("was", "name", "variant", "content"), CASES)
def test_d27_found_inputs_are_read_or_refused(was, name, variant, content, tmp_path):
    target = TARGETS[name]
    run_input(target, bytes([target.variants.index(variant)]) + content, tmp_path)
