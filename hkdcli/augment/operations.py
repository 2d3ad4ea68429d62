"""What an operation is: a pure function that makes another sample, or refuses; and the registry of them.

    @operation("image", may_falsify=("side", "text"))
    def flip(sample, rng, strength): ...

An operation declares what it may falsify; `apply_operation` reads the record first and refuses where that
speaks of any of it. What a declaration cannot say, the function itself refuses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from PIL import Image, ImageChops

from hkdcli.augment.topics import TOPICS, Topic, find_topics
from hkdcli.data.facts import NOTHING_KNOWN, ImageFacts
from hkdcli.data.records import Example
from hkdcli.errors import UsageError

Kind = Literal["label", "text", "image", "choices"]
KINDS: tuple[Kind, ...] = ("label", "text", "image", "choices")
"""In the order in which a variant is made: facts are true of the picture as it was."""
Evidence = Literal["listed", "record"]
"""How a swap has to be known to be false: by the facts of the picture, or by the record's silence."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A record, its picture (RGB), and what is known of the picture as it was before any operation."""

    example: Example
    image: Image.Image
    facts: ImageFacts = NOTHING_KNOWN
    evidence: Evidence = "listed"


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation made: the record and the picture as they are now, and with which parameters."""

    example: Example
    image: Image.Image
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an operation left a sample alone, in a few words that do not quote more than one word of it."""

    reason: str


Function = Callable[[Sample, Random, float], Change | Refusal]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation by name.

    Attributes:
        name: of the function.
        kind: what it changes; "label" for what changes text and answer together.
        may_falsify: topics; a record that speaks of one of them is left alone.
        group: of operations with a group at most one is applied to a variant; None: it has none.
        function: takes the sample, where chance comes from, and the strength, above 0 up to 1.
    """

    name: str
    kind: Kind
    may_falsify: tuple[Topic, ...]
    group: str | None
    function: Function

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


REGISTRY: dict[str, Operation] = {}


def operation(
    kind: Kind, *, may_falsify: Sequence[Topic] = (), group: str | None = None
) -> Callable[[Function], Function]:
    """Register a function as an operation under its own name.

    Args:
        kind: what it changes.
        may_falsify: topics of which a record must not speak.
        group: at most one operation of a group is applied to a variant.

    Returns:
        A decorator that leaves the function as it is. UsageError for a kind or topic that there is not, a
        name that is taken, or a function without a docstring, which says what it preserves.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        for given, known in ((kind, KINDS), *((topic, TOPICS) for topic in may_falsify)):
            if given not in known:
                raise UsageError(
                    f"operation {name}: {given!r} is not one of: {', '.join(known)}",
                    hint="Name one of those in @operation(...).",
                )
        if name in REGISTRY:
            raise UsageError(f"there is an operation called {name} already", hint="Call yours otherwise.")
        if not inspect.getdoc(function):
            raise UsageError(
                f"operation {name} has no docstring", hint="Write one: it says what the operation preserves."
            )
        REGISTRY[name] = Operation(name, kind, tuple(may_falsify), group, function)
        return function

    return register


def get_operations() -> Mapping[str, Operation]:
    """All operations by name, our own first, by kind and then as they stand in their files."""
    from hkdcli.augment import (  # noqa: F401  they register themselves
        choice_ops,
        degrade_ops,
        image_ops,
        negatives,
        repairs,
        text_ops,
    )

    return {each.name: each for kind in KINDS for each in REGISTRY.values() if each.kind == kind}


def apply_operation(chosen: Operation, sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Apply an operation unless the record speaks of something that it may falsify, or nothing would change.

    Args:
        chosen: the operation.
        sample: left as it is.
        rng: where chance comes from.
        strength: above 0 up to 1.

    Returns:
        The change, or why there is none, as "side: left".
    """
    topics = find_topics(sample.example)
    spoken = next((topic for topic in chosen.may_falsify if topic in topics), None)
    if spoken is not None:
        return Refusal(f"{spoken}: {topics[spoken]}")
    made = chosen.function(sample, rng, strength)
    return Refusal("nothing to change") if isinstance(made, Change) and _is_as_before(sample, made) else made


def _is_as_before(sample: Sample, made: Change) -> bool:
    """Whether a change left every text and every pixel as it was, as `saturation` does to a grey photo."""
    before, after = sample.image, made.image
    if made.example != sample.example or (before.mode, before.size) != (after.mode, after.size):
        return False
    return after is before or ImageChops.difference(after, before).getbbox() is None
