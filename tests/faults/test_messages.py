"""Every message of hkd, side by side in messages.txt, and laws that each of them keeps.

A message says what happened and where; its hint, or the message itself, says what to do. Messages are read
from the source, so a new one is under these laws from the day it is written.
"""

from __future__ import annotations

import re

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


def is_about(message: Message) -> str:
    return f"{message.path}: {message.text[:60]}"


def is_passed_on(message: Message) -> bool:
    return message.text in ELSEWHERE or message.kind in ELSEWHERE


def says_what_to_do(text: str) -> bool:
    """Whether a text begins a sentence, or half of one, with a verb of command, or is a command or option."""
    starts = re.findall(r"(?:^|[.;:,] |, or | or | and |if that has moved, give )([A-Za-z]+)", text)
    known = any(VERBS.fullmatch(word.lower()) for word in starts) or text.startswith(CHOICES)
    return known or bool(COMMANDS.match(text) or re.search(r"(^|\s)--[a-z]|exclude each other", text))


def test_the_table_is_what_the_source_says() -> None:
    assert TABLE.read_text("utf-8") == render_table(), f"messages have changed: run {COMMAND}"


def test_there_are_messages_of_every_kind() -> None:
    """Else the reader of the source has gone blind."""
    assert len(MESSAGES) > 500 and len(ROWS) > 100
    assert {"UsageError", "DataError", "ModelError", "SetupError", "MachineLimitError", "OfflineError"} <= {
        message.kind for message in ERRORS
    }
    assert {"warn", "Problem", "build_problem", "Finding", "GateError", "StoppedError"} <= {
        message.kind for message in MESSAGES
    }


@pytest.mark.parametrize("message", MESSAGES, ids=is_about)
def test_a_message_says_something_in_plain_words(message: Message) -> None:
    said = " ".join([message.text, *message.hints])
    assert message.text.strip() == message.text and len(message.text) > 5, "says nothing"
    assert said.isascii() and "please" not in said.lower()
    outside = re.sub(r"\{.*?\}", "", message.text).lower()
    assert not re.search(r"\b(invalid|illegal|bad|error|failure)\b", outside), "says not what is wrong"
    assert not re.match(r"(failed|could not|unable|oops|sorry)\b", outside)


@pytest.mark.parametrize("message", [each for each in MESSAGES if any(each.hints)], ids=is_about)
def test_message_and_hint_are_two_things(message: Message) -> None:
    assert "hint:" not in message.text.lower()
    for hint in filter(None, message.hints):
        assert hint.strip(". ").lower() not in message.text.lower(), "the message says it already"
        assert not re.search(r"\w\.$", message.text), "a hint follows: the message is no sentence of its own"


@pytest.mark.parametrize("message", [each for each in ERRORS if not is_passed_on(each)], ids=is_about)
def test_a_message_has_no_full_stop_and_its_hint_is_a_sentence_or_a_command(message: Message) -> None:
    assert not re.search(r"[\w)]\.$", message.text)
    for hint in filter(None, message.hints):
        if COMMANDS.match(hint):
            continue
        assert hint[0].isupper() or hint[0] == "-", hint
        is_typed = re.search(r"(hkd|hf|pip|run:|-m venv|hkd infer MODEL -).*$|\]\}$|/commits/main$", hint)
        assert hint.endswith((".", "?", "}")) or is_typed, hint


@pytest.mark.parametrize("message", [each for each in ROWS if any(each.hints)], ids=is_about)
def test_the_hint_of_a_row_stands_in_brackets_and_is_no_sentence(message: Message) -> None:
    for hint in filter(None, message.hints):
        assert not hint.endswith(".") and not hint[0].isupper(), hint


@pytest.mark.parametrize("message", [each for each in ACTIONABLE if not is_passed_on(each)], ids=is_about)
def test_what_a_user_can_act_upon_says_what_to_do(message: Message) -> None:
    """A refusal of rows leaves that to its rows, each with its place, its code and its detail."""
    if message.has_rows and not any(message.hints):
        return
    told = [hint for hint in message.hints if hint] or [message.text]
    assert "" not in message.hints or message.hints == ("",), "sometimes there is no hint"
    for each in told:
        assert says_what_to_do(each), each


def test_the_laws_can_be_broken() -> None:
    assert not says_what_to_do("the gold letters are in correct_choice")
    assert says_what_to_do("Give another --out.")
    assert says_what_to_do("If it has moved, give its place with --base.")
