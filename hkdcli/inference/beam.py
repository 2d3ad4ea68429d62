"""A search for the likely answers of a record that has too many legal ones to score them all.

Answers are sets of letters, written in ascending order; a beam walks their tree letter by letter. It knows
nothing of models: it says which letters to score and is told their log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

Letters = tuple[str, ...]


class BeamSearch:
    """The search for one record as one presentation shows it.

    Args:
        letters: the letters shown, ascending.
        lonely: the letter of "No hallucination", which goes with no other; None where it is not shown.
        width: how many beginnings are followed at once, and how many answers are wanted.
    """

    def __init__(self, letters: Sequence[str], lonely: str | None, width: int) -> None:
        self.letters, self.lonely, self.width = tuple(letters), lonely, width
        self.proposals: list[Letters] = [(letter,) for letter in letters]
        self.found: dict[Letters, float] = {}

    def take(self, scores: Sequence[tuple[float, float]]) -> None:
        """Be told how likely the `proposals` are; then there are others, or none when the search is over.

        Nothing that begins with letters can be likelier than these letters: once `width` answers are known
        that beat every beginning, no better one is left.

        Args:
            scores: for each proposal log p(an answer begins with these letters) and log p(it is them).
        """
        begun = {}
        for letters, (beginning, whole) in zip(self.proposals, scores, strict=True):
            self.found[letters] = whole
            if letters[-1] != self.lonely:
                begun[letters] = beginning
        worst = sorted(self.found.values(), reverse=True)[: self.width][-1]
        enough = len(self.found) >= self.width
        likely = sorted(begun, key=lambda letters: -begun[letters])[: self.width]
        followed = [letters for letters in likely if not enough or begun[letters] > worst]
        self.proposals = [(*letters, more) for letters in followed for more in self._after(letters[-1])]

    def best(self) -> dict[Letters, float]:
        """The likeliest answers found, at most `width`, and their log-probabilities."""
        return dict(sorted(self.found.items(), key=lambda item: -item[1])[: self.width])

    def _after(self, letter: str) -> list[str]:
        return [more for more in self.letters if more > letter and more != self.lonely]
