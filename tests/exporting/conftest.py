from __future__ import annotations

from pathlib import Path

import pytest
from tiny_exports import save_tuned, write_run


@pytest.fixture(scope="session")
def tuned_run(tiny_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose student is an adapter with a trained projector; read only."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", str(tiny_llava))
    save_tuned(tiny_llava, folder / "student")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to export to: the only thing in its folder."""
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "judge"
