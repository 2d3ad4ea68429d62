from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.inference.beam import BeamSearch

LETTERS = "ABCDEFG"


def draw_tree(seed: int, lonely: str | None) -> dict[tuple[str, ...], tuple[float, float]]:
    """log p of every beginning and of every whole answer of a random model over sets of letters."""
    random = np.random.default_rng(seed)
    tree: dict[tuple[str, ...], tuple[float, float]] = {}

    def grow(letters: tuple[str, ...], log_p: float) -> None:
        later = [x for x in LETTERS if not letters or (x > letters[-1] and x != lonely)]
        if letters and letters[-1] == lonely:
            later = []
        ways = np.log(random.dirichlet([0.3] * (len(later) + bool(letters))) + 1e-12) + log_p
        if letters:
            tree[letters] = (log_p, float(ways[-1]))
        for letter, way in zip(later, ways, strict=False):
            grow((*letters, letter), float(way))

    grow((), 0.0)
    return tree


def search(seed: int, lonely: str | None, width: int) -> tuple[BeamSearch, int]:
    tree, beam, asked = draw_tree(seed, lonely), BeamSearch(LETTERS, lonely, width), 0
    while beam.proposals:
        asked += len(beam.proposals)
        beam.take([tree[letters] for letters in beam.proposals])
    return beam, asked


def is_legal(letters: tuple[str, ...], lonely: str | None) -> bool:
    return letters == (lonely,) or (lonely not in letters and list(letters) == sorted(set(letters)))


@given(st.integers(0, 10_000), st.sampled_from(["A", "D", "G", None]))
def test_a_wide_beam_finds_everything_and_only_what_is_legal(seed, lonely):
    beam, _ = search(seed, lonely, 128)
    others = [x for x in LETTERS if x != lonely]
    sets = {s for n in range(1, 8) for s in itertools.combinations(others, n)} | ({(lonely,)} - {(None,)})
    assert set(beam.best()) == sets
    assert all(is_legal(letters, lonely) for letters in beam.found)


@given(st.integers(0, 10_000), st.sampled_from(["A", "D", None]))
def test_what_it_gives_is_in_order_and_has_the_scores_of_the_model(seed, lonely):
    tree = draw_tree(seed, lonely)
    beam, _ = search(seed, lonely, 5)
    best = beam.best()
    assert len(best) == 5
    assert list(best.values()) == sorted(best.values(), reverse=True)
    assert all(tree[letters][1] == log_p for letters, log_p in best.items())


def test_it_nearly_always_finds_the_likeliest_answer_without_asking_for_all():
    found, asked = 0, 0
    for seed in range(200):
        tree = draw_tree(seed, "A")
        beam, count = search(seed, "A", 8)
        found += next(iter(beam.best())) == max(tree, key=lambda letters: tree[letters][1])
        asked += count
    assert found >= 198
    assert asked < 0.8 * 200 * len(draw_tree(0, "A"))
