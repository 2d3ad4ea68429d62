"""A file of facts: what is known of the images of a dataset beyond its records, one image to a line."""

from __future__ import annotations

from pathlib import Path

from hkdcli.data.facts import FactSource


def read_facts(path: Path) -> FactSource:
    """Read a file of facts."""
    raise NotImplementedError
