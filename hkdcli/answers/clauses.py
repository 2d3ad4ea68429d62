"""Clauses of a text and the choices that each of them names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hkdcli.answers.chain import Line, find_words, is_boundary, read_chain
from hkdcli.answers.choices import Vocabulary

_CLAUSE_END = re.compile(r"(?<![.!?;])[.!?;]++(?=\s|$)|\n|\b(?:because|since|while|whereas)\b")
_PLACE = re.compile(r"(?<![\w-])(?<!\w')(?=[^\s\-'])")

Named = tuple[int, int, frozenset[str | None]]
"""Where choices are named, and which; None stands for words that two choices share."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A folded clause and what it names, in places from its own beginning."""

    text: str
    asks: bool
    named: tuple[Named, ...]

    @property
    def rest(self) -> str:
        """The clause without the choices' words."""
        starts = [*(start for start, _, _ in self.named), None]
        ends = [0, *(end for _, end, _ in self.named)]
        return " ".join(self.text[end:start] for end, start in zip(ends, starts, strict=True))


def find_named(vocabulary: Vocabulary, line: Line, *, marked: bool) -> list[Named]:
    """Where words, and ids if `marked`, name choices, in order and none over another; no "A" of prose."""
    found: list[Named] = []
    end = 0
    for match in _PLACE.finditer(line.folded):
        start = match.start()
        if start < end:
            continue
        words = find_words(vocabulary, line.folded, start) if is_boundary(line.folded, start) else None
        if words is not None and line.folded[start : words[1]] != "none":  # in a sentence it denies something
            found.append((start, words[1], frozenset([words[0]])))
        elif (
            marked
            and (chain := read_chain(vocabulary, line, start, bare=True)) is not None
            and not (len(chain.items) == 1 and chain.items[0].article)
        ):
            found.append((chain.start, chain.end, frozenset([None]) if chain.conflict else chain.ids))
        else:
            continue
        end = found[-1][1]
    return found


def split_clauses(folded: str, named: list[Named]) -> Iterator[Clause]:
    """Cut a folded text where a clause ends outside of what names choices."""
    start, place = 0, 0
    for match in (*_CLAUSE_END.finditer(folded), None):
        end = match.start() if match else len(folded)
        inside = []
        while place < len(named) and named[place][0] < end:
            inside.append(named[place])
            place += 1
        if inside and inside[-1][1] > end:
            place -= len(inside)
            continue
        asks = match is not None and "?" in match[0]
        yield Clause(
            folded[start:end], asks, tuple((first - start, last - start, ids) for first, last, ids in inside)
        )
        start = match.end() if match else end
