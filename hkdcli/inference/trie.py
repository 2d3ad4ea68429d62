"""Token trees: legal answers as a trie, and the shown orders of one record as a forest below its prefix.

A tree is two tuples of one entry per node, parents before children: its token, and its parent's index
(-1: the node follows directly on what comes before the tree).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Step = tuple[int, int]
"""(node, token): the token is read off the distribution after the node; -1 is the root."""


@dataclass(frozen=True, slots=True)
class Trie:
    """The answers to one question: `steps[y]` are the steps whose log-probabilities add up to answer y's."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    steps: tuple[tuple[Step, ...], ...]


@dataclass(frozen=True, slots=True)
class Forest:
    """Several questions below one prefix, each seeing the prefix and its own branch alone.

    `depths` counts the tokens between the prefix and a node; `steps[q][y]` are the steps of answer y to
    question q, as in `Trie` but with no root left: every node is one of the forest.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    steps: tuple[tuple[tuple[Step, ...], ...], ...]


def build_trie(answers: Sequence[Sequence[int]]) -> Trie:
    """Share the common beginnings of answers.

    Args:
        answers: tokens of each answer, the end of turn included, so that none is the beginning of another.

    Returns:
        A trie with a node for each proper beginning: the last token of an answer is only ever predicted.
    """
    nodes: dict[tuple[int, ...], int] = {(): -1}
    tokens: list[int] = []
    parents: list[int] = []
    steps = []
    for answer in answers:
        for end in range(1, len(answer)):
            key = tuple(answer[:end])
            if key not in nodes:
                nodes[key] = len(tokens)
                tokens.append(key[-1])
                parents.append(nodes[key[:-1]])
        steps.append(tuple((nodes[tuple(answer[:i])], token) for i, token in enumerate(answer)))
    return Trie(tuple(tokens), tuple(parents), tuple(steps))


def build_forest(questions: Sequence[tuple[Sequence[int], Trie]], stem: Sequence[int] = ()) -> Forest:
    """Put several questions below one prefix.

    Args:
        questions: for each its suffix tokens (at least one) and the trie of its answers.
        stem: tokens that all questions follow, and the prefix does not hold.

    Returns:
        The forest: the chain of the stem, then for each question the chain of its suffix and its trie.
    """
    tokens: list[int] = list(stem)
    parents: list[int] = [place - 1 for place in range(len(stem))]
    depths: list[int] = list(range(len(stem)))
    steps = []
    for suffix, trie in questions:
        start, root = len(tokens), len(tokens) + len(suffix) - 1
        tokens += [*suffix, *trie.tokens]
        parents += [len(stem) - 1, *range(start, root), *(root + 1 + parent for parent in trie.parents)]
        for parent in parents[start:]:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        steps.append(tuple(tuple((root + 1 + node, token) for node, token in path) for path in trie.steps))
    return Forest(tuple(tokens), tuple(parents), tuple(depths), tuple(steps))


def compute_ancestors(parents: Sequence[int]) -> npt.NDArray[np.bool_]:
    """[N, N]: whether node j is node i or one of its ancestors, that is, whether i may attend to j."""
    visible = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            visible[node] |= visible[parent]
    return visible
