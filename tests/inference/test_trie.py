from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.inference.trie import build_forest, build_trie, compute_ancestors

END = 0
answers = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple), min_size=1, unique=True)


def spell(tokens, parents, node):
    path = []
    while node >= 0:
        path.append(tokens[node])
        node = parents[node]
    return path[::-1]


@given(answers)
def test_steps_spell_the_answers_and_nodes_are_shared(found):
    ended = [[*answer, END] for answer in found]
    trie = build_trie(ended)
    for answer, steps in zip(ended, trie.steps, strict=True):
        assert [token for _, token in steps] == answer
        assert all(spell(trie.tokens, trie.parents, node) == answer[:i] for i, (node, _) in enumerate(steps))
    assert len(trie.tokens) == len({tuple(a[:i]) for a in ended for i in range(1, len(a))})
    assert all(parent < node for node, parent in enumerate(trie.parents))


@given(
    st.lists(st.tuples(st.lists(st.integers(4, 9), min_size=1, max_size=3), answers), min_size=1, max_size=3)
)
def test_forest_keeps_its_branches_apart(questions):
    forest = build_forest([(suffix, build_trie([[*a, END] for a in found])) for suffix, found in questions])
    ancestors = compute_ancestors(forest.parents)
    np.testing.assert_array_equal(ancestors.sum(-1), np.array(forest.depths) + 1)
    for (suffix, found), steps in zip(questions, forest.steps, strict=True):
        for answer, path in zip(found, steps, strict=True):
            for i, (node, _) in enumerate(path):
                assert spell(forest.tokens, forest.parents, node) == [*suffix, *answer[:i]]
                seen = np.flatnonzero(ancestors[node])
                assert [forest.tokens[k] for k in seen] == [*suffix, *answer[:i]]


def test_four_choices_need_eleven_tokens():
    sets = ["A", "B", "C", "D", "BC", "BD", "CD", "BCD"]
    comma = 99
    written = [[x for letter in s for x in (comma, ord(letter))][1:] + [END] for s in sets]
    assert len(build_trie(written).tokens) == 4 + 2 + 3 + 1 + 1
