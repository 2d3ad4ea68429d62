"""The lexicon: what it says of itself holds."""

from __future__ import annotations

import yaml

from hkdcli.augment.lexicon import FILE, load_lexicon
from hkdcli.augment.phrasing import LONGEST


def test_no_form_means_two_things():
    entries = load_lexicon().objects.values()
    seen: dict[str, str] = {}
    for entry in entries:
        for form in entry.mentions:
            assert seen.setdefault(form, entry.word) == entry.word, form


def test_what_is_near_is_near_both_ways_and_is_known():
    lexicon = load_lexicon()
    for entries in (lexicon.objects, lexicon.attributes):
        for entry in entries.values():
            assert all(entry.word in entries[other].near for other in entry.near)


def test_every_word_that_names_others_is_one_of_the_lexicon():
    content = yaml.safe_load(FILE.read_text("utf-8"))
    groups = content["objects"]
    things = {word for group in groups.values() for word in group}
    values = {word for group in content["attributes"].values() for word in group}
    assert set(content["kinds"]) <= set(groups)
    assert {word for each in content["near"] for word in each} <= things
    assert {word for each in content["near_values"] for word in each} <= values
    assert set(content["value_synonyms"]) <= values
    assert set(content["gradual"]) <= set(content["attributes"])
    assert set(content["places"]) | set(content["mass"]) <= things
    assert set(content["neutral"]) <= values


def test_an_entry_is_no_longer_than_what_is_looked_for():
    lexicon = load_lexicon()
    for entries in (lexicon.objects, lexicon.attributes):
        forms = {form for entry in entries.values() for form in entry.mentions}
        assert max(len(form.split()) for form in forms) <= LONGEST


def test_what_is_ambiguous_is_a_mention_of_something_in_both_numbers():
    lexicon = load_lexicon()
    forms = {form for each in lexicon.objects.values() for form in each.mentions | each.kinds}
    assert lexicon.ambiguous <= forms
    assert {"watch", "watches"} <= lexicon.ambiguous


def test_no_word_is_written_that_is_no_sure_mention():
    lexicon = load_lexicon()
    assert lexicon.ambiguous.isdisjoint(lexicon.objects)


def test_what_covers_several_things_is_no_mention_of_one():
    entries = load_lexicon().objects.values()
    mentions = {form for entry in entries for form in entry.mentions}
    assert not {kind for entry in entries for kind in entry.kinds} & mentions
