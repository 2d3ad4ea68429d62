"""Variants made while a model trains: another one each time a record comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hkdcli.augment.operations import Sample
from hkdcli.augment.pipeline import build_variant, seed_variant
from hkdcli.augment.policies import Policy
from hkdcli.data.facts import FactSource
from hkdcli.data.images import LoadedImage, compute_pixel_hash
from hkdcli.data.prompts import Presentation, identity_presentation
from hkdcli.data.records import Example


@dataclass(frozen=True, slots=True)
class Shown:
    """What a model is shown of a record: texts, picture, and the choices in order under their letters."""

    example: Example
    image: LoadedImage
    presentation: Presentation


class Showing(Protocol):
    """How a record is shown in an epoch."""

    def __call__(self, example: Example, image: LoadedImage, epoch: int) -> Shown:
        """The same for the same record, picture and epoch, in any process."""


def show_as_it_is(example: Example, image: LoadedImage, epoch: int) -> Shown:
    """The record itself, its choices lettered in their own order."""
    return Shown(example, image, identity_presentation(example))


@dataclass(frozen=True, slots=True)
class VariantShowing:
    """Shows a record in a new variant each epoch.

    Attributes:
        policy: how variants are drawn.
        seed: with the epoch and the record's id it decides the variant.
        facts: what is known of the pictures.
    """

    policy: Policy
    seed: int
    facts: FactSource

    def __call__(self, example: Example, image: LoadedImage, epoch: int) -> Shown:
        """The variant of an epoch."""
        sample = Sample(example, image.image, self.facts.get_facts(example.image))
        variant = build_variant(sample, self.policy, seed_variant(self.seed, epoch, example.id))
        if variant.image is not image.image:
            image = LoadedImage(variant.image, compute_pixel_hash(variant.image), image.notes)
        presentation = identity_presentation(variant.example)
        if "letters" in variant.applied:  # it has given each choice the letter to show as its id
            presentation = tuple((choice_id, choice_id) for _, choice_id in presentation)
        return Shown(variant.example, image, presentation)
