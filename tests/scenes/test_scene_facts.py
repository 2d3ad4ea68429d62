"""Facts of scenes: all that can be said of what is seen, nothing of what is not."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from hkdcli.data.facts import NOTHING_KNOWN
from hkdcli.scenes.phrases import OPPOSITES, is_true, render_cell
from hkdcli.scenes.records import SceneRecord, build_record
from hkdcli.scenes.source import build_facts, load_scenes
from hkdcli.scenes.world import CELLS, COLOURS, SHAPES, SIZES, SPLITS, Scene, Thing

RECORDS = st.builds(
    build_record,
    st.sampled_from(SPLITS),
    st.integers(0, 500),
    task=st.sampled_from(["hallucination", "factuality"]),
)
SAYABLE = (
    [f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    + [f"{shape} in {colour}" for colour, shape in product(COLOURS, SHAPES)]
    + [f"{size} {colour} shape" for size, colour in product(SIZES, COLOURS)]
    + [f"{colour} shape at {render_cell(cell)}" for colour, cell in product(COLOURS, CELLS)]
    + [f"{a} shape {relation} {b} shape" for a, relation, b in product(COLOURS, OPPOSITES, COLOURS)]
)


@given(RECORDS)
def test_what_can_be_said_of_a_scene_is_a_fact_exactly_where_it_is_true(record: SceneRecord):
    captions = build_facts(record.scene).captions
    assert set(captions) == {phrase for phrase in SAYABLE if is_true(phrase, record.scene)}
    assert len(captions) == len(set(captions))


@given(RECORDS)
def test_a_listing_names_every_thing_once_and_there_is_none_where_one_is_covered(record: SceneRecord):
    scene, objects = record.scene, build_facts(record.scene).objects
    if scene.covered is not None:
        assert objects is None
    else:
        assert sorted(objects or ()) == sorted(f"{t.size} {t.colour} {t.shape}" for t in scene.things)


def test_of_what_is_covered_nothing_is_said():
    seen, hidden = Thing("circle", "red", "large", (0, 0)), Thing("star", "cyan", "small", (1, 1))
    facts = build_facts(Scene((seen, hidden), covered=(1, 1)))
    assert facts.captions and not any("cyan" in said or "star" in said for said in facts.captions)


def test_the_vocabulary_is_all_that_a_thing_can_be_called_whatever_is_drawn():
    names = build_facts(Scene(())).vocabulary
    assert names == {" ".join(each) for each in product(SIZES, COLOURS, SHAPES)}
    assert build_facts(Scene(())).objects == ()


def test_a_dataset_knows_its_own_pictures_and_no_others():
    dataset = load_scenes("dev", size=6, seed=3)
    for index, example in enumerate(dataset.examples):
        record = build_record("dev", index, seed=3, task=example.task)
        assert dataset.facts.get_facts(example.image) == build_facts(record.scene) != NOTHING_KNOWN
    assert dataset.facts.get_facts("another.png") == NOTHING_KNOWN
