"""Faults beside kills: a disk that fills up, a read-only folder, a second process in a folder."""

from __future__ import annotations

import ctypes
import resource
import signal
import threading
from collections.abc import Callable

from campaign import Campaign
from lives import Life

TRIES = 5
CAPABILITY_VERSION_3 = 0x20080522


def fill_disk(campaign: Campaign) -> str:
    """No file may grow beyond so many bytes: exit 4, and the next life, without a limit, ends as usual."""
    done, cut = 0, 0
    largest = max(path.stat().st_size for path in (campaign.folder / "whole-0").rglob("*") if path.is_file())
    for number in range(TRIES):
        out = campaign.make_folder(f"full-{number}")
        limit = int(largest * campaign.chance.uniform(0.01, 0.9))
        life = campaign.live(out, resume=False, prepare=lambda limit=limit: limit_files(limit))
        if life.code == campaign.job.code:
            done += 1
        elif life.code == 4 and "Traceback" not in life.said:
            cut += 1
        else:
            campaign.problems.append(f"full disk, {limit} bytes: exit {life.code}: {life.said[-400:]}")
        campaign.check(out, campaign.live(out, resume=True), 0)
    return f"{cut} refused, {done} had room, all {TRIES} resumed"


def limit_files(size: int) -> None:
    """The system refuses more than so many bytes in a file, by an error, and not by its signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def forbid_writing(campaign: Campaign) -> str:
    """The folder is read-only: refused before anything is loaded, nothing written."""
    out = campaign.make_folder("forbidden")
    out.chmod(0o555)
    life = campaign.live(out, resume=False, prepare=give_up_rights)
    if life.code != 3 or "cannot be written: Permission denied" not in life.said or list(out.iterdir()):
        campaign.problems.append(f"read-only folder: exit {life.code}: {life.said[-400:]}")
    return f"exit {life.code}"


def give_up_rights() -> None:
    """Be bound by the modes of files, which do not bind root: drop every capability, as capset(2) says."""
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def begin_twice(campaign: Campaign) -> str:
    """A second process is refused while the first works, which ends as if it had been alone."""
    out = campaign.make_folder("twice")
    lives: list[Life] = []
    first = threading.Thread(target=lambda: lives.append(campaign.live(out, resume=False)))
    first.start()
    while not any(path.name.endswith(".lock") for path in out.rglob("*")) and first.is_alive():
        first.join(0.001)
    second = campaign.live(out, resume=True, said="second.txt")
    first.join()
    if second.code != 2 or "Traceback" in second.said:
        campaign.problems.append(f"second process: exit {second.code}: {second.said[-400:]}")
    campaign.check(out, lives[0], 0)
    return f"exit {second.code}"


FAULTS: dict[str, Callable[[Campaign], str]] = {
    "full disk": fill_disk,
    "read-only folder": forbid_writing,
    "second process": begin_twice,
}
