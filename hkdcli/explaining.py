"""From any exception to an error that a person can act upon, or to none: then it is a bug of ours."""

from __future__ import annotations

import errno

from hkdcli.errors import HkdError, MachineLimitError, SetupError

# Packages that an extra of ours brings; the others come with hkd itself.
EXTRAS = {"pyarrow": "parquet", "vllm": "vllm"}
_REFUSED_PATHS = (errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)


def explain(error: BaseException) -> HkdError | None:
    """Say of any exception what a person can do about it.

    Args:
        error: What was raised.

    Returns:
        The error that a person can act upon; None for a bug of ours.
    """
    if isinstance(error, HkdError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MachineLimitError(
            f"out of memory: {error}", hint="Use a smaller micro_batch_size or batch size."
        )
    if _is_lost_gpu(error):
        return MachineLimitError(
            f"the GPU failed: {str(error).splitlines()[0]}",
            hint="Look at nvidia-smi; once it works again, go on with --resume.",
        )
    if isinstance(error, OSError) and error.errno in _REFUSED_PATHS and error.filename is not None:
        return SetupError(f"{error.filename}: {error.strerror}", hint="Give another path.")
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("hkdcli"):
        package = (error.name or "").partition(".")[0]
        wanted = f'"hkd[{EXTRAS[package]}]"' if package in EXTRAS else "--force-reinstall hkd"
        return SetupError(f"the package {package} is missing", hint=f"pip install {wanted}")
    return None


def _is_lost_gpu(error: BaseException) -> bool:
    """Whether torch says that the device failed; an assertion in a kernel is a wrong index, and a bug."""
    said = str(error)
    return isinstance(error, RuntimeError) and said.startswith("CUDA error: ") and "assert" not in said
