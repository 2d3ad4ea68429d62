"""What is known of a picture beyond its record: the objects in it, and what people say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of one picture.

    Attributes:
        objects: everything in the picture that the listing speaks of, each once, as "dog" or, with what is
            known of it, "large red circle"; None where nothing is listed. What it does not list is not
            there, as far as it is in `vocabulary`.
        captions: true sentences or phrases about the picture.
        vocabulary: every object that the listing names in any picture: of what is called otherwise, it says
            nothing.
    """

    objects: tuple[str, ...] | None = None
    captions: tuple[str, ...] = ()
    vocabulary: frozenset[str] = frozenset()


NOTHING_KNOWN = ImageFacts()


class FactSource(Protocol):
    """Where facts come from: a file, or scenes, of which everything is known."""

    def get_facts(self, name: str) -> ImageFacts:
        """What is known of the picture that records call `name`; `NOTHING_KNOWN` where that is nothing."""


class NoFacts:
    """Nothing is known of any picture."""

    def get_facts(self, name: str) -> ImageFacts:
        """Nothing."""
        return NOTHING_KNOWN
