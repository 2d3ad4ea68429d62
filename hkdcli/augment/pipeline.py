"""One variant of a record: operations drawn by a policy, applied in a fixed order, each asked first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from PIL import Image

from hkdcli.augment.operations import Operation, Refusal, Sample, apply_operation, get_operations
from hkdcli.augment.policies import Policy
from hkdcli.data.records import Example


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant, and how it came about.

    Attributes:
        example: the record as it is now; its id is that of the record it was made of.
        image: the picture as it is now, RGB; the very object that came in where no operation changed it.
        applied: parameters by operation, in the order in which they were applied.
        refused: reasons by operation, of those that were drawn.
    """

    example: Example
    image: Image.Image
    applied: Mapping[str, Mapping[str, Any]]
    refused: Mapping[str, str]


def seed_variant(seed: int, copy: int, example_id: str) -> Random:
    """Where the chance of one variant comes from: the same for the same seed, copy (epoch) and record."""
    return Random(f"{seed}/{copy}/{example_id}")


def build_variant(sample: Sample, policy: Policy, rng: Random) -> Variant:
    """Draw operations by a policy and apply them to a sample.

    Args:
        sample: left as it is.
        policy: how often and how strongly; its evidence counts, not the sample's.
        rng: all chance; equal states give equal variants.

    Returns:
        The variant.
    """
    sample = replace(sample, evidence=policy.evidence)
    applied: dict[str, Mapping[str, Any]] = {}
    refused: dict[str, str] = {}
    groups: set[str] = set()
    for chosen in _draw(policy, rng):
        if chosen.group in groups:
            continue
        made = apply_operation(chosen, sample, rng, policy.strength)
        if isinstance(made, Refusal):
            refused[chosen.name] = made.reason
            continue
        sample = replace(sample, example=made.example, image=made.image)
        applied[chosen.name] = made.parameters
        if chosen.group is not None:
            groups.add(chosen.group)
    return Variant(sample.example, sample.image, applied, refused)


def _draw(policy: Policy, rng: Random) -> Iterator[Operation]:
    """The operations of a variant in their order; those of one group change places, each in its turn."""
    drawn = [
        each for each in get_operations().values() if rng.random() < policy.probabilities.get(each.name, 0)
    ]
    for group in dict.fromkeys(each.group for each in drawn if each.group is not None):
        places = [place for place, each in enumerate(drawn) if each.group == group]
        members = [drawn[place] for place in places]
        rng.shuffle(members)
        for place, member in zip(places, members, strict=True):
            drawn[place] = member
    yield from drawn
