"""Operations of a user's own: registered from a file, and what they return is not believed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tiny_records import make_hallucination, make_image

from hkdcli.augment import operations
from hkdcli.augment.operations import Change, Refusal, Sample, apply_operation, get_operations
from hkdcli.augment.own_operations import load_own_operations
from hkdcli.augment.policies import OWN_PROBABILITY, build_policy
from hkdcli.errors import UsageError

HEAD = "from dataclasses import replace\nfrom hkdcli.augment.operations import Change, Refusal, operation\n\n"
GOOD = (
    HEAD
    + '''
@operation("image", may_falsify=("light",))
def invert(sample, rng, strength):
    """Turns light into dark. Preserves shapes."""
    from PIL import ImageOps
    return Change(sample.example, ImageOps.invert(sample.image), {"by": "hand"})
'''
)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is gone after it."""
    get_operations()
    monkeypatch.setattr(operations, "REGISTRY", dict(operations.REGISTRY))


def write(folder: Path, text: str) -> Path:
    path = folder / "ops.py"
    path.write_text(text)
    return path


def sample() -> Sample:
    return Sample(make_hallucination(), make_image().image)


def test_an_operation_of_ones_own_is_drawn_guarded_and_applied(tmp_path):
    assert load_own_operations(write(tmp_path, GOOD)) == ("invert",)
    assert build_policy("light").probabilities["invert"] == OWN_PROBABILITY
    made = apply_operation(get_operations()["invert"], sample(), Random(0), 1.0)
    assert isinstance(made, Change) and made.parameters == {"by": "hand"}
    dark = make_hallucination(caption="a red square is left of a small circle in the dark")
    refused = apply_operation(get_operations()["invert"], Sample(dark, make_image().image), Random(0), 1.0)
    assert isinstance(refused, Refusal) and refused.reason.startswith("light")


BODIES = {
    "return None": "returns a NoneType",
    "return sample": "returns a Sample",
    "raise ValueError('no such thing')": "ValueError: no such thing",
    "return Change(replace(sample.example, id='x'), sample.image)": "another id",
    "return Change(replace(sample.example, answer=frozenset('Z')), sample.image)": "none of the choices",
    "return Change(sample.example, sample.image.convert('L'))": "not RGB",
    "return Change(sample.example, sample.image, {'a': object()})": "JSON",
    "return Change(sample.example, None)": "no picture",
    "return Change('text', sample.image)": "no record",
}


@pytest.mark.parametrize("body", BODIES)
def test_what_it_returns_is_checked_and_the_record_named(body, tmp_path):
    text = (
        f'{HEAD}@operation("image")\ndef own(sample, rng, strength):\n    """Says something."""\n    {body}\n'
    )
    load_own_operations(write(tmp_path, text))
    with pytest.raises(UsageError, match=f"operation own, record 'h1': .*{BODIES[body]}"):
        apply_operation(get_operations()["own"], sample(), Random(0), 1.0)


FILES = {
    "import nothing_of_this_name": "ops.py:1: ModuleNotFoundError",
    "x = 1\ny = (": "ops.py:2: SyntaxError",
    "\n\nraise KeyError('k')": "ops.py:3: KeyError",
    "x = 1": "adds no operation",
    HEAD + "@operation('image')\ndef bare(s, r, t):\n    return None": "no docstring",
    HEAD + "@operation('image')\ndef flip(s, r, t):\n    'Mirrors.'": "an operation called flip already",
    HEAD + "@operation('pixels')\ndef own(s, r, t):\n    'Says.'": "pixels",
    HEAD + "@operation('image', may_falsify=('colours',))\ndef own(s, r, t):\n    'Says.'": "colours",
    "raise SystemExit(0)": "SystemExit",
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(text, tmp_path):
    with pytest.raises(UsageError, match=FILES[text]):
        load_own_operations(write(tmp_path, text))
