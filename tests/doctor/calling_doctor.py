"""`hkd doctor ... --json` in this process, on the CPU."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hkdcli.__main__ import main


def call_doctor(*words: str | Path, code: int = 0) -> Any:
    """The document that it prints, which has to fit its own type; it ends with exit code `code`."""
    from hkdcli.doctor.checks import Diagnosis

    out, err = io.StringIO(), io.StringIO()
    with patch("torch.cuda.is_available", return_value=False), redirect_stdout(out), redirect_stderr(err):
        ended = main(["doctor", *map(str, words), "--json"])
    assert ended == code, f"exit {ended}, not {code}\n{out.getvalue()}\n{err.getvalue()}"
    document = json.loads(out.getvalue())
    if "checks" in document:
        assert Diagnosis.model_validate(document).exit_code == code
    return document
