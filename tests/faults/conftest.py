"""Faults are tested through the command line and with the files that other folders of tests make."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS / "data"), str(TESTS / "faults")]
