"""The tables of cards are what `hkd init` says, and a rehearsal that is remembered changes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from printed_commands import ROOT
from quick_plans import of_few_layers, with_one_candidate

sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(ROOT / "docs"))
import cards
from page_parts import FIGURES, render_choosing, replace_part

from hkdcli.planning import starting
from hkdcli.planning.room import GIB
from hkdcli.reporter import SilentReporter


@pytest.mark.slow
def test_what_is_remembered_is_what_init_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "CARDS", (16, 24))
    opened: list[Path] = []

    def open_planned(recipe, machine, work, reporter, real=cards.open_planned):
        opened.append(work)
        return real(recipe, machine, work, reporter)

    monkeypatch.setattr(cards, "open_planned", open_planned)
    with of_few_layers() as patch:
        with_one_candidate(patch)
        (tmp_path / "once").mkdir()
        chosen = cards.choose(tmp_path / "once")
        (tmp_path / "plain").mkdir()
        wishes = cards.make_up_wishes(tmp_path / "plain")
        plain = starting.start_recipe(wishes, gpu_gb=16, memory_gib=None, reporter=SilentReporter())
    assert [row["card"] for row in chosen] == [16, 24] and len(opened) == 1
    assert chosen[0]["need_gib"] == round(plain.need / GIB, 1)
    assert chosen[0]["micro_batch_size"] == plain.micro_batch_size


def test_the_page_has_a_row_for_each_card_and_each_recipe() -> None:
    figures = json.loads(FIGURES.read_text("utf-8"))
    assert [row["card"] for row in figures["cards"]] == list(cards.CARDS)
    recipes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes" / "online").glob("*.yaml")}
    assert {row["recipe"] for row in figures["recipes"]} == recipes
    page = (ROOT / "docs" / "choosing-a-pyramid.md").read_text("utf-8")
    assert render_choosing(page) == page
    assert all(f"| {row['card']} | {row['pyramid']} |" in page for row in figures["cards"])


def test_a_part_of_a_page_is_replaced() -> None:
    assert replace_part("a [x] old [y] b", "[x]", "[y]", ["new"]) == "a [x]new\n[y] b"
    with pytest.raises(ValueError, match="unpack"):
        replace_part("a [y] b", "[x]", "[y]", ["new"])
