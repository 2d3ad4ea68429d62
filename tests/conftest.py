"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of what is tested.
settings.register_profile("hkd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hkd")


def pytest_collection_finish() -> None:
    """Modules of torch and transformers are a million objects, and every level that is let go collects garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Qwen2.5-VL; read only."""
    import torch
    from tiny_models import save_tiny_qwen

    torch.set_num_threads(1)
    return save_tiny_qwen(tmp_path_factory.mktemp("models") / "tiny-qwen")


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random LLaVA; read only."""
    import torch
    from tiny_models import save_tiny_llava

    torch.set_num_threads(1)
    return save_tiny_llava(tmp_path_factory.mktemp("models") / "tiny-llava")


@pytest.fixture(params=["tiny_qwen", "tiny_llava"])
def tiny_model(request: pytest.FixtureRequest) -> Path:
    """Folder of each tiny model in turn."""
    folder: Path = request.getfixturevalue(request.param)
    return folder
