"""Fetching models of the hub: all that are needed at once, after seeing that they can be had and kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.atomic import check_writable, disk_errors, measure_free
from hkdcli.errors import HkdError, MachineLimitError, ModelError
from hkdcli.models import hub
from hkdcli.models.advice import advise_conversion_of_hub

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_TIMEOUT_S = 10.0
_GIB = 2**30
_ELSEWHERE = "set HF_HOME to a folder that can be written"


def fetch_models(names: Iterable[str]) -> bool:
    """Bring models of the hub to this machine.

    With HF_HUB_OFFLINE the hub is not asked. Else it is asked once in a process what a name stands for, and
    not at all about a commit that is in its cache.

    Args:
        names: hub ids; folders and other names are passed over.

    Returns:
        Whether any was fetched. `OfflineError` lists all that are still missing; `ModelError` where the hub
        refuses or has no such model, `MachineLimitError` where the disk has no room, `SetupError` where the
        cache cannot be written.
    """
    wanted = [name for name in dict.fromkeys(names) if hub.is_hub_id(name)]
    asked = [] if hub.is_offline() else [name for name in wanted if not hub.is_settled(name)]
    told, trouble = _ask(asked)
    new = {name: info for name, info in told.items() if not _is_here(name, info)}
    if new:
        check_writable(hub.find_cache(), hint=_ELSEWHERE)
        _check_files(new)
        _check_room(new)
    for name in new:
        trouble = _fetch(name) or trouble
    hub.hold_commits({name: info.sha for name, info in told.items() if info.sha})
    missing = [found for found in map(hub.look_up, wanted) if isinstance(found, hub.Missing)]
    if missing:
        hub.refuse_missing(missing, trouble)
    return bool(new)


def _ask(names: Iterable[str]) -> tuple[dict[str, ModelInfo], str | None]:
    """What the hub says of models; nothing, and why, where it cannot be reached."""
    from huggingface_hub import HfApi

    told: dict[str, ModelInfo] = {}
    for name in names:
        repository, revision = hub.split_hub_id(name)[0], hub.find_revision(name)
        try:
            with _explain_refusals(name):
                told[name] = HfApi().model_info(
                    repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
                )
        except ModelError:
            if isinstance(hub.look_up(name), hub.Missing):  # what is here stays usable
                raise
        except Exception as error:  # which of them tell of a lost network differs between versions
            return {}, _shorten(error)
    return told, None


def _is_here(name: str, info: ModelInfo) -> bool:
    found = hub.look_up(name)
    return isinstance(found, Path) and found.name == info.sha


def _check_files(told: Mapping[str, ModelInfo]) -> None:
    """Refuse what has no safetensors, before anything of it is fetched."""
    for name, info in told.items():
        files = [file.rfilename for file in info.siblings or ()]
        if files and not any(file.endswith(".safetensors") for file in files):
            pickles = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
            said = f" but {', '.join(pickles[:3])}" if pickles else ""
            other = "Name a repository that holds the weights of a model."
            hint = advise_conversion_of_hub(hub.split_hub_id(name)[0]) if pickles else other
            raise ModelError(f"{name}: has no safetensors{said}", hint=hint)


def _check_room(told: Mapping[str, ModelInfo]) -> None:
    """Refuse what the disk has no room for, before anything is fetched."""
    cache = hub.find_cache()
    need = sum(_weigh_new(cache, name, file) for name, info in told.items() for file in info.siblings or ())
    free = measure_free(cache)
    if need > free:
        raise MachineLimitError(
            f"{', '.join(told)}: {need / _GIB:.1f} GiB are to be downloaded, and {free / _GIB:.1f} GiB are "
            f"free at {cache}",
            hint="Free some space, or set HF_HOME to a folder on a larger disk.",
        )


def _weigh_new(cache: Path, name: str, file: RepoSibling) -> int:
    """Size in bytes of a file that is wanted and not in the cache, under any commit; else 0."""
    from huggingface_hub.file_download import repo_folder_name

    if not any(fnmatch(file.rfilename, pattern) for pattern in hub.WANTED):
        return 0
    folder = repo_folder_name(repo_id=hub.split_hub_id(name)[0], repo_type="model")
    content = str(file.blob_id if file.lfs is None else file.lfs.sha256)
    return 0 if (cache / folder / "blobs" / content).exists() else file.size or 0


def _fetch(name: str) -> str | None:
    """Download one model; says what was in the way, where the network broke off."""
    from huggingface_hub import snapshot_download

    repository, revision = hub.split_hub_id(name)[0], hub.find_revision(name)
    try:
        with _explain_refusals(name), disk_errors(hub.find_cache(), hint=_ELSEWHERE):
            snapshot_download(repository, revision=revision, allow_patterns=hub.WANTED)
    except HkdError:
        raise
    except Exception as error:
        return _shorten(error)
    return None


@contextmanager
def _explain_refusals(name: str) -> Iterator[None]:
    """Turn what the hub refuses into a ModelError that says what to do; anything else as it came."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"{constants.ENDPOINT}/{hub.split_hub_id(name)[0]}"
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"{name}: access is restricted", hint=f"Accept its licence at {page}, then run: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name}: the model has no such revision", hint=f"See {page}/commits/main"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{name}: no such folder, and no such model on the hub",
            hint="Check the name; if the model is private, run: hf auth login",
        ) from error


def _shorten(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
