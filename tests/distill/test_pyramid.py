import pytest

from hkdcli.distill.pyramid import Lesson, Level, plan_lessons

LEVELS = (Level("apex", weight=3.0), Level("middle"), Level("base"))


def test_parent_teaches_top_down():
    assert plan_lessons(LEVELS, "parent") == (
        Lesson(0, (), ()),
        Lesson(1, (0,), (1.0,)),
        Lesson(2, (1,), (1.0,)),
    )


def test_all_levels_above_teach_with_normalised_weights():
    assert plan_lessons(LEVELS, "all")[2] == Lesson(2, (1, 0), (0.25, 0.75))


def test_a_ready_level_is_not_trained_but_teaches():
    lessons = plan_lessons((Level("apex", ready=True), Level("base")))
    assert lessons == (Lesson(1, (0,), (1.0,)),)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((), "at least one"),
        ((Level("a"), Level("a")), "unique"),
        ((Level("a", weight=0.0), Level("b")), "all 0"),
    ],
)
def test_impossible_pyramids_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        plan_lessons(levels)
