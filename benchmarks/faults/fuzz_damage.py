"""Damage to valid inputs, as hypothesis draws it: cuts, swaps, flips, repeats, other JSON, nesting."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

MOST_BYTES = 300_000
DEPTHS = (30, 900, 950, 980, 995, 3_000, 50_000)
HOSTILE = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1e308,
        10**18,
        10**30,
        10**400,
        "",
        " ",
        "\0",
        "\ud800",
        "A",
        "..",
        "x" * 300,
        "1",
    ),
    *(
        [],
        [None],
        {},
        {"": None},
        [[]],
        {"id": 1},
        ["A", 1],
        "../../etc/passwd",
        "http://localhost/",
        "\u0661",
    ),
)
TOKENS = tuple(
    token.encode("utf-8", "surrogatepass")
    for token in (
        *(
            '"',
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\n",
            "\r",
            "\t",
            "\0",
            "\ufeff",
            "\u2028",
            "\\",
            "\\ud800",
            "\\u0000",
        ),
        *(
            "NaN",
            "Infinity",
            "-",
            "1e999",
            "null",
            "true",
            "- ",
            "? ",
            "!!",
            "!!int",
            "&a",
            "*a",
            "|",
            ">",
            "%",
            "@",
        ),
        *(
            '"\\UFFFFFFFF"',
            "%YAML 9",
            "!!python/object/apply:os.system",
            "---",
            "<<",
            "''",
            '""',
            "\u00b2",
            "\ud800",
        ),
        *(
            "<think>",
            "</think>",
            "\\boxed{",
            "<answer>",
            "```",
            "**",
            "(",
            ")",
            "A",
            "B, C",
            " and ",
            "answer",
            "not",
        ),
        *("{{", "}}", "{%", "%}", "{{ x.y.z }}", "version https://git-lfs", "<html>", "9" * 30, "9" * 5000),
    )
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


@st.composite
def draw_damaged(draw: Callable[[Any], Any], seeds: Sequence[bytes]) -> bytes:
    """An input made of a valid one: its variant stays, its content suffers one to four times."""
    seed = draw(st.sampled_from(seeds))
    content = seed[1:]
    for _ in range(draw(st.integers(1, 4))):
        content = draw(st.sampled_from(_KINDS))(draw, content, seeds)[:MOST_BYTES]
    return seed[:1] + content


def _cut(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _draw_span(draw, content)
    return draw(st.sampled_from([content[:start], content[start:], content[:start] + content[end:]]))


def _swap(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, middle = _draw_span(draw, content)
    end = draw(st.integers(middle, len(content)))
    return content[:start] + content[middle:end] + content[start:middle] + content[end:]


def _flip(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    damaged = bytearray(content)
    for place in draw(st.lists(st.integers(0, max(0, len(content) - 1)), min_size=1, max_size=6)):
        if content:
            damaged[place] = draw(st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255]))
    return bytes(damaged)


def _insert(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _draw_span(draw, content)
    piece = draw(st.sampled_from(TOKENS) | st.binary(max_size=12))
    return content[:start] + piece + content[draw(st.sampled_from([start, end])) :]


def _repeat(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _draw_span(draw, content)
    times = draw(st.sampled_from([2, 20, 500, 20_000]))
    piece = content[start:end] if draw(st.booleans()) else draw(st.sampled_from(TOKENS))
    return content[:start] + (piece * times)[:MOST_BYTES] + content[end:]


def _splice(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    other = draw(st.sampled_from(seeds))[1:]
    (start, _), (from_, to) = _draw_span(draw, content), _draw_span(draw, other)
    return content[:start] + other[from_:to] + content[start:]


def _count_up(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    found = list(_NUMBER.finditer(content[:20_000]))
    if not found:
        return content
    number = draw(st.sampled_from(found))
    value = draw(
        st.sampled_from([b"-1", b"0", b"1e400", b"9" * 19, b"9" * 5000, b"0.0", b"4294967296", b"1e-400"])
    )
    return content[: number.start()] + value + content[number.end() :]


def _nest(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _draw_span(draw, content)
    opening, closing = draw(
        st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"{{", b"}}"), (b"(", b")")])
    )
    depth = draw(st.sampled_from(DEPTHS))
    inside = content[start:end] if draw(st.booleans()) else b"0"
    return content[:start] + opening * depth + inside + closing * depth + content[end:]


def _change_json(draw: Any, content: bytes, seeds: Sequence[bytes]) -> bytes:
    """Another value, a key more or less, at any place of a JSON document or of one of its lines."""
    lines = content.split(b"\n")
    whole = _parse(content)
    place = draw(st.integers(0, len(lines) - 1))
    value = whole if whole is not None else _parse(lines[place])
    if value is None:
        return content
    changed = json.dumps(_change(draw, value)).encode()
    return changed if whole is not None else b"\n".join([*lines[:place], changed, *lines[place + 1 :]])


def _change(draw: Any, value: Any) -> Any:
    if isinstance(value, dict | list) and value and draw(st.integers(0, 5)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw(st.sampled_from(keys))
        made = copy = dict(value) if isinstance(value, dict) else list(value)
        what = draw(st.integers(0, 7))
        if what == 0:
            del copy[key]
        elif what == 1 and isinstance(copy, dict):
            copy[draw(st.sampled_from(["", "id", "\ud800", "x" * 300, *keys]))] = value[key]
        else:
            copy[key] = _change(draw, value[key])
        return made
    hostile = draw(st.sampled_from(HOSTILE))
    return _wrap(hostile, draw(st.sampled_from(DEPTHS[:5]))) if draw(st.integers(0, 9)) == 0 else hostile


def _wrap(value: Any, depth: int) -> Any:
    for _ in range(min(depth, 400)):
        value = [value]
    return value


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _draw_span(draw: Any, content: bytes) -> tuple[int, int]:
    start = draw(st.integers(0, len(content)))
    return start, draw(
        st.integers(start, min(len(content), start + draw(st.sampled_from([1, 8, 60, 5_000]))))
    )


_KINDS = (_cut, _swap, _flip, _insert, _repeat, _splice, _count_up, _nest, _change_json, _change_json)
