"""The contact sheet shows what it is given: pictures, texts, the answer marked, all within its cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_records import DrawnImages, make_choices, make_factuality, make_hallucination

from hkdcli.augment.operations import Sample
from hkdcli.augment.pipeline import build_variant, seed_variant
from hkdcli.augment.policies import Policy, build_policy
from hkdcli.augment.preview import GAP_PX, PICTURE_PX, WIDTH_PX, Cell, build_preview, render_sheet
from hkdcli.augment.sheet_text import CHANGED, GREEN, Line, Word, mark_changes, measure, wrap
from hkdcli.data.datasets import Dataset
from hkdcli.scenes.source import load_scenes

PICTURE = Image.new("RGB", (72, 72), (200, 30, 40))
CELL = Cell(PICTURE, make_hallucination(), ("h1, as it is",))


def has_colour(sheet: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(sheet) == colour).all(axis=2).any())


def cut_column(sheet: Image.Image, column: int) -> Image.Image:
    left = GAP_PX + column * (WIDTH_PX + GAP_PX)
    return sheet.crop((left, 0, left + WIDTH_PX, sheet.height))


def test_a_row_is_as_wide_as_its_cells_and_shows_their_pictures():
    sheet = render_sheet([[CELL, CELL, CELL], [CELL]])
    assert sheet.width == GAP_PX + 3 * (WIDTH_PX + GAP_PX)
    assert sheet.mode == "RGB"
    middle = GAP_PX + PICTURE_PX[1] // 2
    for column in range(3):
        assert sheet.getpixel((GAP_PX + column * (WIDTH_PX + GAP_PX) + WIDTH_PX // 2, middle)) == (
            200,
            30,
            40,
        )


def test_small_pictures_are_enlarged_without_blur_and_large_ones_fit():
    dots = Image.effect_noise((72, 72), 90).convert("RGB")
    sheet = render_sheet([[replace(CELL, image=dots), replace(CELL, image=dots.resize((2000, 300)))]])
    left = GAP_PX + (WIDTH_PX - 216) // 2
    shown = sheet.crop((left, GAP_PX, left + 216, GAP_PX + 216))
    assert shown.resize((72, 72), Image.Resampling.NEAREST).tobytes() == dots.tobytes()
    assert sheet.size == render_sheet([[CELL, CELL]]).size


def test_the_answer_is_marked_by_more_than_colour():
    example = make_hallucination()
    right = render_sheet([[replace(CELL, example=example)]])
    none = render_sheet([[replace(CELL, example=replace(example, answer=None))]])
    assert has_colour(right, GREEN) and not has_colour(none, GREEN)
    grey_right, grey_none = (np.asarray(sheet.convert("L")) < 128 for sheet in (right, none))
    assert grey_right.sum() > grey_none.sum() + 100  # discs are filled, letters bold


def test_changed_words_are_marked_and_equal_records_have_no_marks():
    changed = replace(CELL.example, caption=CELL.example.caption.replace("square", "star"))
    assert not has_colour(render_sheet([[CELL, CELL]]), CHANGED)
    sheet = render_sheet([[CELL, replace(CELL, example=changed)]])
    assert not has_colour(cut_column(sheet, 0), CHANGED)
    assert has_colour(cut_column(sheet, 1), CHANGED)


def test_choices_in_another_order_are_no_changed_words():
    example = CELL.example
    turned = replace(example, choices=make_choices(*(choice.text for choice in reversed(example.choices))))
    assert turned.choices != example.choices
    assert not has_colour(render_sheet([[CELL, replace(CELL, example=turned)]]), CHANGED)


AWKWARD = [
    "日本語の文章は単語の間に空白がないので折り返しが難しい" * 8,
    "https://example.org/" + "a" * 5000,
    "صورة كلب  🐶 \ud83d \x00 \x1b[31m end",
    "word " * 3000,
    "line\nbreaks\u2028and\ttabs",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_no_text_overflows_its_cell_or_fails(text):
    example = make_hallucination(caption=text, phrases=(text, "b", "c"), question=text)
    other = make_factuality(claim=text, context=text)
    original = replace(CELL, example=replace(example, caption="other", question="?"))
    sheet = render_sheet([[original, Cell(PICTURE, example, (text, text)), Cell(PICTURE, other, (text,))]])
    pixels = np.asarray(sheet)
    for column in range(3):
        end = GAP_PX + column * (WIDTH_PX + GAP_PX) + WIDTH_PX
        gap = pixels[: GAP_PX + PICTURE_PX[1] + 200, end + 2 : end + GAP_PX - 2]
        assert (gap == 255).all()
    assert sheet.height < 2000


@given(st.text(max_size=300), st.integers(1, 6), st.sampled_from([0, 18]))
@settings(max_examples=60)
def test_wrapped_lines_fit_and_lose_nothing_but_what_is_cut(text, most, indent_px):
    words = mark_changes(text, None)
    lines = wrap(words, Line((), indent_px=indent_px), 200, most)
    assert len(lines) <= most
    for line in lines:
        assert (
            sum(measure(word.text) for word in line.words) <= 200 - indent_px or len(line.words[0].text) == 1
        )
    said = "".join(word.text for line in lines for word in line.words)
    whole = "".join(word.text for word in words)
    assert said == whole or (said.endswith("...") and whole.startswith(said[:-3]))


def test_words_that_the_original_does_not_have_there_are_marked():
    assert mark_changes("a red dog runs", "a blue dog runs") == (
        Word("a"),
        Word("red", True),
        Word("dog"),
        Word("runs"),
    )


def test_a_mark_stands_before_the_first_line_alone():
    lines = wrap(mark_changes("word " * 40, None), Line((), mark=True), 200, 3)
    assert [line.mark for line in lines] == [True, None, None]


def test_a_sheet_without_rows_is_blank():
    assert np.asarray(render_sheet([])).min() == 255


def test_the_variants_of_a_sheet_are_those_of_the_seed(monkeypatch):
    shown = []
    monkeypatch.setattr("hkdcli.augment.preview.render_sheet", lambda rows: shown.extend(rows) or PICTURE)
    dataset, policy = load_scenes("train", size=9), build_policy("standard")
    build_preview(dataset, policy, seed=5, copies=2, count=3)
    assert [row[0].example for row in shown] == [dataset.examples[index] for index in (0, 4, 8)]
    for row in shown:
        assert len(row) == 3
        for copy in (1, 2):
            example = row[0].example
            sample = Sample(example, row[0].image, dataset.facts.get_facts(example.image))
            variant = build_variant(sample, policy, seed_variant(5, copy, example.id))
            assert row[copy].example == variant.example
            assert row[copy].image.tobytes() == variant.image.tobytes()


def test_a_small_dataset_is_shown_whole_and_an_idle_policy_says_so(monkeypatch):
    shown = []
    monkeypatch.setattr("hkdcli.augment.preview.render_sheet", lambda rows: shown.extend(rows) or PICTURE)
    dataset = Dataset("two", (make_hallucination(), make_factuality()), DrawnImages())
    build_preview(dataset, Policy({}, 1.0), seed=0, copies=1, count=8)
    assert [row[0].example.id for row in shown] == ["h1", "f1"]
    assert all(row[1].title == ("variant 1", "nothing was done") for row in shown)
