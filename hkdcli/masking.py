"""Keep secrets out of everything that is printed or stored."""

from __future__ import annotations

import os
import re

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,})"
    r"|(?<=://)[^/\s:@\"']+:[^/\s@\"']+(?=@)"
)
MASK = "***"


def mask_secrets(text: str) -> str:
    """Replace secrets in a text by `***`.

    A secret is the value of an environment variable whose name speaks of one (`HF_TOKEN`), a token of
    a known form (`hf_...`, `sk-...`, `ghp_...`), or the user and password of a URL.

    Args:
        text: Any text that is about to be shown or written.

    Returns:
        The text without the secrets.
    """
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):
            text = text.replace(value, MASK)
    return _SECRET_TEXT.sub(MASK, text)
