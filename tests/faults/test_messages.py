"""Every message of hkd, side by side in messages.txt, and laws that each of them keeps.

A message says what happened and where; its hint, or the message itself, says what to do. Messages are read
from the source, so a new one is under these laws from the day it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
from message_table import COMMAND, TABLE, Message, list_error_kinds, list_messages, render_table

MESSAGES = list_messages()
ERRORS = [message for message in MESSAGES if message.kind in list_error_kinds()]
ROWS = [message for message in MESSAGES if message.kind in ("BadRow", "RefusedRowError", "ReplyError")]
# What a user can do something about: recipe, data, machine, offline.
ACTIONABLE = [message for message in ERRORS if message.code in ("2", "3", "4", "7")]
# Passed on from elsewhere (typer explains its own), or never shown by a command (scenes are read by tests).
ELSEWHERE = ("{explain()}", "{str(stop)}", "UnreadableSceneError")
COMMANDS = re.compile(
    r"(pip install|hf [a-z]+|hkd [a-z-]+ [A-Z-]|kill|python -) ?|(pyramid|refine|distill)\.|\{"
)
CHOICES = ("There are: ", "It has: ", "The names are ", "Records: ", "In the settings, {hint}")
VERBS = re.compile(
    "accept|add|ask|bring|calibrate|call|change|check|choose|close|compare|copy|correct|decorate|"
    "delete|download|estimate|fill|finish|fit|free|give|install|keep|label|leave|let|load|look|"
    "lower|make|measure|merge|move|name|open|plan|processor|put|quantize|raise|refine|reinstall|"
    "remove|rename|resume|save|see|set|split|start|store|take|train|type|try|undo|unset|use|wait|"
    "write"
)


def is_passed_on(message: Message) -> bool:
    return message.text in ELSEWHERE or message.kind in ELSEWHERE


def check(messages: Sequence[Message], law: Callable[[Message], str]) -> None:
    """Name every message that breaks a law, and how: a law says what is wrong, or nothing."""
    broken = [f"{each.path}: {each.text}: {wrong}" for each in messages if (wrong := law(each))]
    assert broken == []


def says_what_to_do(text: str) -> bool:
    """Whether a text begins a sentence, or half of one, with a verb of command, or is a command or option."""
    starts = re.findall(r"(?:^|[.;:,] |, or | or | and )([A-Za-z]+)", text)
    known = any(VERBS.fullmatch(word.lower()) for word in starts) or text.startswith(CHOICES)
    return known or bool(COMMANDS.match(text) or re.search(r"(^|\s)--[a-z]|exclude each other", text))


def find_empty_words(message: Message) -> str:
    said = " ".join([message.text, *message.hints])
    outside = re.sub(r"\{.*?\}", "", message.text).lower()
    if message.text.strip() != message.text or len(message.text) <= 5:
        return "says nothing"
    if not said.isascii() or "please" in said.lower():
        return "is not in plain words"
    hollow = r"\b(invalid|illegal|bad|error|failure)\b|^(failed|could not|unable|oops|sorry)\b"
    return "does not say what is wrong" if re.search(hollow, outside) else ""


def find_repetition(message: Message) -> str:
    if "hint:" in message.text.lower():
        return "has its hint within"
    known = message.text.lower()
    return "the hint says it again" if any(h.strip(". ").lower() in known for h in message.hints if h) else ""


def find_wrong_ends(message: Message) -> str:
    if re.search(r"[\w)]\.$", message.text):
        return "a message has no full stop: its hint follows"
    for hint in filter(None, message.hints):
        typed = r"(hkd|hf|pip|run:|-m venv|hkd infer MODEL -).*$|\]\}$|/commits/main$"
        is_sentence = hint[0].isupper() or hint[0] == "-"
        if not COMMANDS.match(hint) and not (
            is_sentence and (hint.endswith((".", "?", "}")) or re.search(typed, hint))
        ):
            return f"neither a sentence nor a command: {hint}"
    return ""


def find_sentence(row: Message) -> str:
    return "".join(hint for hint in row.hints if hint and (hint.endswith(".") or hint[0].isupper()))


def find_no_advice(message: Message) -> str:
    if message.has_rows and not any(message.hints):
        return ""  # its rows tell, each with its place, its code and its detail
    if "" in message.hints and len(message.hints) > 1:
        return "has a hint at times only"
    told = [hint for hint in message.hints if hint] or [message.text]
    return "" if all(map(says_what_to_do, told)) else "does not say what to do"


def test_the_table_is_what_the_source_says() -> None:
    assert TABLE.read_text("utf-8") == render_table(), f"messages have changed: run {COMMAND}"


def test_there_are_messages_of_every_kind() -> None:
    """Else the reader of the source has gone blind."""
    assert len(MESSAGES) > 500 and len(ROWS) > 100
    wanted = {"UsageError", "DataError", "ModelError", "SetupError", "MachineLimitError", "OfflineError"}
    wanted |= {"warn", "Problem", "build_problem", "Finding", "GateError", "StoppedError"}
    assert wanted <= {message.kind for message in MESSAGES}


def test_every_message_says_something_in_plain_words() -> None:
    check(MESSAGES, find_empty_words)


def test_message_and_hint_are_two_things() -> None:
    check(MESSAGES, find_repetition)


def test_a_message_has_no_full_stop_and_its_hint_is_a_sentence_or_a_command() -> None:
    check([each for each in ERRORS if not is_passed_on(each)], find_wrong_ends)


def test_the_hint_of_a_row_stands_in_brackets_and_is_no_sentence() -> None:
    check(ROWS, find_sentence)


def test_whatever_a_user_can_act_upon_says_what_to_do() -> None:
    check([each for each in ACTIONABLE if not is_passed_on(each)], find_no_advice)


BROKEN = {
    "invalid value": find_empty_words,
    "an em dash \u2014 here": find_empty_words,
    "no such file (hint: give one)": find_repetition,
    "there is no such file.": find_wrong_ends,
    "there is no such file": find_no_advice,
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_message_that_breaks_a_law_is_found(text: str) -> None:
    assert BROKEN[text](Message("x.py", "UsageError", "2", text, ("",)))
    assert not BROKEN[text](Message("x.py", "UsageError", "2", "x.png: no such file", ("Give another.",)))


def test_advice_is_told_from_what_is_none() -> None:
    assert not says_what_to_do("the gold letters are in correct_choice")
    assert says_what_to_do("Give another --out.")
    assert says_what_to_do("If it has moved, give its place with --base.")
