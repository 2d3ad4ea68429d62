"""How many variants each record gets, so that the classes come out even."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from random import Random


def balance_copies(classes: Sequence[Hashable], copies: int, seed: int) -> tuple[int, ...]:
    """Share out N x `copies` variants so that classes, records as they are included, are as even as can be.

    Records of a class get equally many, give or take one; who gets the odd ones follows from the seed.

    Args:
        classes: of each record; records that are not to be balanced against one another differ in more than
            the class, so give (task, class).
        copies: how many variants each record gets on average, at least 1.
        seed: of what is drawn.

    Returns:
        How many variants each record gets, by its place; together N x `copies`.
    """
    sizes = Counter(classes)
    given = _fill(sizes, len(classes) * copies)
    result = [0] * len(classes)
    rng = Random(f"{seed}/balance")
    for name, size in sizes.items():
        places = [place for place, each in enumerate(classes) if each == name]
        share, odd = divmod(given[name], size)
        lucky = set(rng.sample(places, odd))
        for place in places:
            result[place] = share + (place in lucky)
    return tuple(result)


def _fill(sizes: Counter[Hashable], budget: int) -> dict[Hashable, int]:
    """How many variants each class gets: the smallest are filled up first, like vessels that water joins."""
    order = sorted(sizes, key=lambda name: (sizes[name], str(name)))
    joined, level = 0, 0
    total = 0
    for joined, name in enumerate(order, start=1):
        total += sizes[name]
        level = (budget + total) // joined
        if joined == len(order) or level <= sizes[order[joined]]:
            break
    given = dict.fromkeys(order, 0)
    rest = budget + total - level * joined
    for number, name in enumerate(order[:joined]):
        given[name] = level - sizes[name] + (number < rest)
    return given
