"""What the target of `hkd doctor` is, told from what it names."""

from __future__ import annotations

from pathlib import Path

from hkdcli.doctor.options import FORMS, Kind
from hkdcli.errors import UsageError
from hkdcli.opening import SCENES

_RECIPES = (".yaml", ".yml")
_RECORDS = (".json", ".jsonl", ".ndjson", ".parquet")


def find_kind(target: str) -> Kind:
    """Tell what a target is.

    Args:
        target: A path, hub id or scenes:NAME.

    Returns:
        What it is taken for; it need not exist where its name alone tells.

    Raises:
        UsageError: It is none, or could be two.
    """
    path = Path(target)
    if target.startswith(SCENES):
        return _tell_scenes(target)
    if path.suffix.lower() in _RECIPES:
        return "recipe"
    if path.is_dir():
        return _tell_folder(path)
    if path.suffix.lower() == ".safetensors":
        raise UsageError(f"{target}: is a file of weights", hint="Name the folder of the model.")
    if path.exists() or path.suffix.lower() in _RECORDS:
        return "data"
    if target.count("/") == 1 and not path.is_absolute() and not target.startswith("."):
        return "model"
    raise UsageError(f"{target}: is no recipe, no model and no records", hint=FORMS)


def _tell_scenes(target: str) -> Kind:
    from hkdcli.scenes.pretrained import SHIPPED
    from hkdcli.scenes.world import SPLITS

    name = target.removeprefix(SCENES)
    if name in SPLITS:
        return "data"
    models = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    if name in models:
        return "model"
    hint = f"Records: {', '.join(SPLITS)}; models: {', '.join(models)}."
    raise UsageError(f"{target}: the embedded world has no such records or model", hint=hint)


def _tell_folder(path: Path) -> Kind:
    from hkdcli.data.columns import is_arrow_folder
    from hkdcli.models.folders import is_model_folder

    is_model = is_model_folder(path) or (path / "manifest.json").is_file() or (path / "student").is_dir()
    is_data = is_arrow_folder(path)
    if is_model and is_data:
        raise UsageError(f"{path}: holds a model and records; which of them is meant?", hint=FORMS)
    if not (is_model or is_data):
        raise UsageError(f"{path}: this folder is neither a model nor a run nor records", hint=FORMS)
    return "model" if is_model else "data"
