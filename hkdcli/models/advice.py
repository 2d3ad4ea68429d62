"""What to do about a model that is refused for what it would run: commands that run nothing of it."""

from __future__ import annotations

import shlex
from pathlib import Path

# With weights_only torch reads tensors and nothing else, and fails at whatever would run.
_READ = "from_pretrained(sys.argv[1], {}trust_remote_code=False).save_pretrained(sys.argv[{}])"
_PICKLES = "dtype='auto', use_safetensors=False, weights_only=True, "
_MODEL = f"import sys; from transformers import AutoModelForImageTextToText as Model; Model.{_READ}"
_PROCESSOR = f"; from transformers import AutoProcessor as Reader; Reader.{_READ.format('', 2)}"
_ADAPTER = (
    "import sys, torch, safetensors.torch as s; path = sys.argv[1] + '/adapter_model.'; "
    "tensors = torch.load(path + 'bin', map_location='cpu', weights_only=True); "
    "s.save_file({name: tensors[name].contiguous() for name in tensors}, path + 'safetensors')"
)
_WITHOUT_CODE = (
    "import json, pathlib, sys; [path.write_text(json.dumps({key: value for key, value in "
    "json.loads(path.read_text()).items() if key != 'auto_map'})) "
    "for path in pathlib.Path(sys.argv[1]).glob('*config.json')]"
)


def advise_conversion(folder: Path, kind: str) -> str:
    """How to convert pickled weights in a folder to safetensors beside them.

    Args:
        folder: of a model or adapter.
        kind: `model` or `adapter_model`.

    Returns:
        A hint with a command; torch reads the pickles with `weights_only`, which runs nothing.
    """
    code = _MODEL.format(_PICKLES, 1) if kind == "model" else _ADAPTER
    return f"convert them, which reads tensors and runs nothing:\n  {_call(code, str(folder))}"


def advise_conversion_of_hub(repository: str) -> str:
    """How to make a folder with safetensors of a model of the hub that has only pickles.

    Args:
        repository: of the hub, without a revision.

    Returns:
        A hint with a command, as `advise_conversion` gives it.
    """
    folder = repository.partition("/")[2]
    command = _call(_MODEL.format(_PICKLES, 2) + _PROCESSOR, repository, folder)
    return f"convert it, which reads tensors and runs nothing, and name the new folder {folder}:\n  {command}"


def advise_own_code(folder: Path, model_type: str) -> str:
    """What to do about a model whose settings name Python code of its own.

    Args:
        folder: of the model.
        model_type: as its config.json says.

    Returns:
        A hint: leave the code out where transformers knows such models itself, else use another checkpoint.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if model_type in CONFIG_MAPPING_NAMES:
        copy = f"{folder.name}-without-code"
        steps = [shlex.join(["cp", "-rL", str(folder), copy]), _call(_WITHOUT_CODE, copy)]
        told = f"transformers has {model_type} built in; in a copy, take the code out, and name the copy:"
        return "\n  ".join([told, *steps])
    return (
        f"transformers has no {model_type or 'such model'} built in, and hkd runs no code of a model: "
        "use a checkpoint that was ported to transformers (names often end in -hf), or another model"
    )


def _call(code: str, *arguments: str) -> str:
    return f'python -c "{code}" {shlex.join(arguments)}'
