"""Answers of other systems: a free text about one record, read as choice ids or not at all."""

from __future__ import annotations

from typing import Literal

from hkdcli.answers.choices import Reading, Vocabulary, clean_text, read_ids
from hkdcli.answers.marks import read_marked
from hkdcli.answers.statements import CONFLICT, UNPARSED
from hkdcli.answers.words import is_refusal, read_words
from hkdcli.answers.wrapping import HEAD, TAIL, find_values, shorten_text, unwrap_text
from hkdcli.data.records import Example

__all__ = ["Parser", "Reading", "parse_text"]

Parser = Literal["strict", "lenient"]


def parse_text(text: str, example: Example, parser: Parser) -> Reading:
    r"""Read what a text says about a record; what is in doubt is not read.

    strict reads ids of the record and nothing else, by the grammar of gold answers, also in brackets, quotes
    or a JSON list, with a full stop, or in another case where no two ids differ by case alone. Full-width
    letters are letters, look-alikes of other scripts are not. Ids that are the words of another choice are a
    conflict. A text of more than 22,000 characters is not read.

    lenient takes what strict reads. Else it drops thoughts up to `</think>`, takes the first answer of a
    dialogue, the inside of the last `<answer>` and of the last `\boxed{}`, drops Markdown, reads a JSON
    object by its keys, and takes the first of these that gives an answer:

    1. Statements with a mark ("The answer is (B)", "Final answer: B, C", "I choose C", "so it's C"), also
       of a choice's words. A final answer goes before others, else the last one holds; what it takes back,
       doubts, leaves open or judges ("Answer: B: visible") is not the answer.
    2. Ids alone on the first or last line or before a reason ("C, because ..."); lists and sentences about an
       option: "B. its words", "(B) ...", "Option B". Exactly another choice's words behind an id are a
       conflict. Several that disagree are not read, nor a list of all choices.
    3. The choices' own words: the whole text or a list. Of a claim: the one label that clauses give ("so the
       claim is false"). Else the phrases that are called hallucinated, by id or words, where all that are
       named are called so or cleared of it ("B is visible"); "there is no hallucination".
    4. A refusal.

    Of a longer text lenient reads the first 2,000 and the last 20,000 characters, and in these 1, 2 and 4.
    Letters of prose are never ids, nor words inside longer words. Time is linear in the text.

    Args:
        text: Any text.
        example: The record that it is about.
        parser: How it is read.

    Returns:
        The ids, legal together or not, or why there are none.
    """
    vocabulary = Vocabulary(example)
    text = text.strip()
    strict = read_ids(text, vocabulary) if len(text) <= HEAD + TAIL else UNPARSED
    if parser == "strict" or strict.how != "unparsed":
        return strict
    unwrapped = unwrap_text(text)
    kept = shorten_text(unwrapped)
    values = find_values(kept)
    if values is None:
        return _read_prose(kept, vocabulary, whole=kept == unwrapped)
    readings = [UNPARSED if each is None else _read_prose(each, vocabulary, whole=True) for each in values]
    return readings[0] if len({reading.choices for reading in readings}) == 1 else CONFLICT


def _read_prose(text: str, vocabulary: Vocabulary, *, whole: bool) -> Reading:
    text = clean_text(text)
    reading = read_ids(text, vocabulary)
    if reading.how != "unparsed":
        return reading
    found = read_marked(vocabulary, text)
    if whole and (found is None or found.how == "unparsed"):
        found = read_words(vocabulary, text)
    if found is None or found.how == "unparsed":
        return Reading(None, "refusal") if is_refusal(text) else UNPARSED
    return found
