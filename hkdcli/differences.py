"""Two sets of facts side by side: what differs, value by value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def render_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Render every value that differs, however deep it lies.

    Args:
        before: What was written down, as JSON gives it back.
        now: What it would be today.

    Returns:
        One line per value, such as "  train.max_steps  was 3, is 4"; none where nothing differs.
    """
    was, is_now = _flatten(before), _flatten(now)
    changed = [key for key in {**was, **is_now} if _show(was, key) != _show(is_now, key)]
    width = max(map(len, changed), default=0)
    return [f"  {key:<{width}}  was {_show(was, key)}, is {_show(is_now, key)}" for key in changed]


def _flatten(whole: Any) -> dict[str, Any]:
    """Values by dotted key; a loop, since a damaged file may be nested deeper than Python calls go."""
    flat: dict[str, Any] = {}
    waiting = [("", whole)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping) and value:
            inside = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
        elif isinstance(value, list | tuple) and value:
            inside = [(f"{key}[{place}]", item) for place, item in enumerate(value)]
        else:
            flat[key] = value
            continue
        waiting += reversed(inside)
    return flat


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "absent"
