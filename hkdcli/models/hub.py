"""Models of the hub: their names, and what the hub's cache on this machine holds and lacks of them.

Within a process a name stands for one commit: the one that the hub gave when it was first asked, or the one
that a run was begun with (`hold_commits`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hkdcli.errors import ModelError, OfflineError

# Settings, tokenizers and safetensors: no pickles, and no Python.
WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_commits: dict[tuple[Path, str], str] = {}  # of names, by the cache that they are looked for in


@dataclass(frozen=True, slots=True)
class Missing:
    """A model that is not, or not wholly, in the hub's cache.

    Attributes:
        name: the hub id as it was given.
        files: what the cache lacks; empty where it holds nothing of the model.
    """

    name: str
    files: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line."""
        if self.files:
            return f"{self.name}: the hub's cache lacks files of it: {', '.join(self.files)}"
        return f"{self.name}: no such folder, and the hub's cache does not hold the model"

    def advise(self) -> list[str]:
        """The commands that bring it."""
        repository, revision = split_hub_id(self.name)[0], find_revision(self.name)
        at = f" --revision {revision}" if revision else ""
        includes = " ".join(f"--include '{pattern}'" for pattern in WANTED)
        verify = [f"hf cache verify {repository}{at}"] if self.files else []
        return [*verify, f"hf download {repository}{at} {includes}"]


def is_hub_id(name: str) -> bool:
    """Whether a name can be that of a model of the hub: `owner/name`, with an optional `@revision`."""
    repository = split_hub_id(name)[0]
    return repository.count("/") == 1 and not repository.startswith((".", "/")) and not os.path.isdir(name)


def split_hub_id(name: str) -> tuple[str, str | None]:
    """Repository and revision of a hub id; the revision is null where it names none."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def find_cache() -> Path:
    """The folder of the hub's cache, there or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether the hub is not to be asked: HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def hold_commits(commits: Mapping[str, str]) -> None:
    """Let hub ids stand for given commits from now on.

    Args:
        commits: hub id -> commit.
    """
    _commits.update({(find_cache(), name): commit for name, commit in commits.items()})


def find_revision(name: str) -> str | None:
    """The commit that a hub id stands for in this process, else the revision that it names."""
    return _commits.get((find_cache(), name)) or split_hub_id(name)[1]


def is_settled(name: str) -> bool:
    """Whether there is nothing to ask the hub: the name stands for a commit, and that is in the cache."""
    return _COMMIT.fullmatch(find_revision(name) or "") is not None and isinstance(look_up(name), Path)


def list_commits(names: Iterable[str]) -> dict[str, str]:
    """The commit of each hub id among the names that is on this machine."""
    found = {name: look_up(name) for name in dict.fromkeys(names) if is_hub_id(name)}
    return {name: folder.name for name, folder in found.items() if isinstance(folder, Path)}


def look_up(name: str) -> Path | Missing:
    """Look for a model in the hub's cache, without a network.

    Args:
        name: a hub id.

    Returns:
        Its folder, where that is complete as far as can be told.

    Raises:
        ModelError: the hub has no such names.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            split_hub_id(name)[0],
            revision=find_revision(name),
            allow_patterns=WANTED,
            local_files_only=True,
        )
    except HFValidationError as error:
        raise ModelError(
            f"{name}: no such folder, and the hub has no such names",
            hint="Give a folder that is there, or a hub id as org/name.",
        ) from error
    except LocalEntryNotFoundError as error:  # of an incomplete snapshot it says what that lacks
        said = re.search(r"missing \((.+?)\)", str(error))
        return Missing(name, tuple(said.group(1).split(", ")) if said else ())
    lost = _list_lost(Path(folder))
    return Missing(name, lost) if lost else Path(folder)


def refuse_missing(missing: Sequence[Missing], trouble: str | None = None) -> NoReturn:
    """List what is missing, all at once, with the commands that bring it.

    Args:
        missing: at least one model.
        trouble: what was in the way of asking the hub, where it was asked.

    Raises:
        OfflineError: always.
    """
    reason = "HF_HUB_OFFLINE is set" if is_offline() else "the hub cannot be reached"
    reason += f" ({trouble})" if trouble else ""
    count = "a model is" if len(missing) == 1 else f"{len(missing)} models are"
    lines = [f"{count} not on this machine, and {reason}", *(f"  {each.describe()}" for each in missing)]
    commands = [f"  {command}" for each in missing for command in each.advise()]
    where = f"where there is a network (files are kept in {find_cache()}), or name folders:"
    raise OfflineError("\n".join(lines), hint="\n".join([where, *commands]))


def _list_lost(folder: Path) -> tuple[str, ...]:
    """What a snapshot lacks: links that lead nowhere, shards that never came, weights as a whole."""
    lost = {path.name for path in folder.iterdir() if not path.exists()}
    names = {path.name for path in folder.iterdir()}
    for index in folder.glob("*.safetensors.index.json"):
        lost |= {name for name in _read_shards(index) if not os.path.exists(folder / name)}
    if not any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        lost.add("*.safetensors")
    if not names & {"config.json", "adapter_config.json"}:
        lost.add("config.json")
    return tuple(sorted(lost))


def _read_shards(index: Path) -> list[str]:
    """Names of the shards that an index lists; a damaged one is told of where the model is checked."""
    try:
        return [str(name) for name in json.loads(index.read_bytes())["weight_map"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
