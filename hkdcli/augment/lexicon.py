"""The lexicon that words are swapped by, as `lexicon.yaml` has it: words that exclude one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hkdcli.augment.inflection import form_plural
from hkdcli.safe_yaml import parse_yaml

FILE = Path(__file__).with_name("lexicon.yaml")


@dataclass(frozen=True, slots=True)
class Entry:
    """A thing or a value.

    Attributes:
        word: as it is written, in the singular.
        plural: of it; the word itself for a value.
        group: whose other members can take its place, unless they are `near`.
        singulars: forms that count as a mention of one of it, synonyms included.
        plurals: forms that count as a mention of several.
        near: words of the entries that are taken for it.
        kinds: words that cover it, of which one does not know whether it is meant.
        places: words for where and how it is met so often that it goes without saying.
    """

    word: str
    plural: str
    group: str
    singulars: frozenset[str]
    plurals: frozenset[str]
    near: frozenset[str]
    kinds: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()

    @property
    def mentions(self) -> frozenset[str]:
        """Every form that counts as a mention of it."""
        return self.singulars | self.plurals


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Entries by their word, and what surrounds them.

    Attributes:
        objects: things.
        attributes: values.
        gradual: groups of values that are a matter of degree, or of which one thing can have two.
        neutral: values that some part of nearly everything has.
        mass: things that the singular speaks of without an article.
        crowds: plurals that end in no s, and words for several things.
        opposites: words for how things lie, both ways.
        ambiguous: forms that are no sure mention of a thing.
        denials: words that speak of what is not there.
        depictions: words for images of things.
        fixed: words that make one expression with the word before.
    """

    objects: Mapping[str, Entry]
    attributes: Mapping[str, Entry]
    gradual: frozenset[str]
    neutral: frozenset[str]
    mass: frozenset[str]
    crowds: frozenset[str]
    opposites: Mapping[str, str]
    ambiguous: frozenset[str]
    denials: frozenset[str]
    depictions: frozenset[str]
    fixed: frozenset[str]


@cache
def load_lexicon() -> Lexicon:
    """The lexicon that is shipped."""
    tree, problems = parse_yaml(FILE.read_text("utf-8"))
    if problems or not isinstance(tree, dict):
        raise ValueError(f"{FILE.name}: {problems}")
    content: dict[str, Any] = tree
    opposites = dict(content["opposites"])
    return Lexicon(
        dict(_build_objects(content)),
        dict(_build_attributes(content)),
        frozenset(content["gradual"]),
        frozenset(content["neutral"]),
        frozenset(content["mass"]),
        frozenset(content["crowds"]),
        opposites | {second: first for first, second in opposites.items()},
        _collect_forms(content["ambiguous"], content["plurals"]),
        frozenset(content["denials"]),
        frozenset(word for row in content["depictions"] for word in row),
        frozenset(content["fixed"]),
    )


def _build_objects(content: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    plurals = content["plurals"]
    for group, things in content["objects"].items():
        kinds = _collect_forms([group, *content["kinds"].get(group, ())], plurals)
        for word, synonyms in things.items():
            singulars = frozenset([word, *synonyms])
            forms = frozenset(form_plural(each, plurals) for each in singulars)
            near = _find_near(word, content["near"])
            places = _collect_forms(content["places"].get(word, ()), plurals)
            yield word, Entry(word, form_plural(word, plurals), group, singulars, forms, near, kinds, places)


def _build_attributes(content: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    for group, values in content["attributes"].items():
        for word in values:
            synonyms = content["value_synonyms"].get(word, ())
            near = _find_near(word, content["near_values"])
            forms = frozenset([word, *synonyms])
            yield word, Entry(word, word, group, forms, frozenset(), near)


def _collect_forms(words: Iterable[str], plurals: Mapping[str, str]) -> frozenset[str]:
    """Words in the singular and the plural."""
    return frozenset(form for word in words for form in (word, form_plural(word, plurals)))


def _find_near(word: str, sets: Sequence[Sequence[str]]) -> frozenset[str]:
    return frozenset(other for each in sets if word in each for other in each) - {word}
