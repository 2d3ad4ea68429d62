"""The installed vLLM: found, and asked for its version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hkdcli.errors import SetupError

# The first that comes with transformers 5, which writes our folders.
MIN_VERSION = (0, 19, 1)
INSTALL_HINT = 'pip install "hkd[vllm]"'


@dataclass(frozen=True, slots=True)
class VllmProgram:
    """An installed vLLM: where it is and its version as it says it."""

    path: str
    version: str


def find_vllm() -> VllmProgram:
    """Find the `vllm` program and check its version.

    Returns:
        The program: that on PATH, else that of the environment which hkd runs in.

    Raises:
        SetupError: it is absent, cannot be run, or is of an old or unknown version.
    """
    path = shutil.which("vllm") or shutil.which("vllm", path=str(Path(sys.executable).parent))
    if path is None:
        raise SetupError("--engine vllm needs vLLM, which is not installed here", hint=INSTALL_HINT)
    try:
        asked = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{path} --version: {error}", hint=INSTALL_HINT) from error
    lines = asked.stdout.split("\n") if asked.returncode == 0 else []
    version = next((line.strip() for line in reversed(lines) if line.strip()), "")
    check_version(version, f"{path} --version" + (f":\n{asked.stderr[-1000:]}" if asked.returncode else ""))
    return VllmProgram(path, version)


def check_version(version: str, source: str) -> None:
    """Refuse a version that is older than what is relied upon, or is none.

    Args:
        version: for example "0.19.1" or "0.21.0rc1".
        source: who said so.

    Raises:
        SetupError: names the version found and the one needed.
    """
    found = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?(\D.*)?", version)
    if found and tuple(int(part or 0) for part in found.groups()[:3]) >= MIN_VERSION:
        return
    needed = ".".join(map(str, MIN_VERSION))
    raise SetupError(
        f"vLLM {needed} or later is needed, found {ascii(version) if version else 'no version'} by {source}",
        hint=INSTALL_HINT,
    )
