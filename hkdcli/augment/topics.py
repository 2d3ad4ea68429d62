"""What a record speaks of: the guard that every operation is asked through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hkdcli.data.records import Example

Topic = Literal["colour", "light", "side", "place", "text", "count", "size", "quality", "language"]


def find_topics(example: Example) -> Mapping[Topic, str]:
    """The topics that a record's texts speak of, each with the first word that says so."""
    raise NotImplementedError
