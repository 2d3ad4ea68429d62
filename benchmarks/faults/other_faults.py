"""Faults beside kills: a disk that fills up, a folder that cannot be written, a second process in a folder."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable

from campaign import Campaign
from lives import Life

TRIES = 5
NOBODY = 65534


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
    """The system refuses more than so many bytes in a file; without this signal's action it says so as an error."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def forbid_writing(campaign: Campaign) -> str:
    """The folder is somebody else's: refused before anything is loaded, nothing written."""
    out = campaign.make_folder("forbidden")
    out.chmod(0o555)
    life = campaign.live(out, resume=False, prepare=become_nobody)
    if life.code not in (2, 3) or "Traceback" in life.said or list(out.iterdir()):
        campaign.problems.append(f"read-only folder: exit {life.code}: {life.said[-400:]}")
    return f"exit {life.code}"


def become_nobody() -> None:
    """Leave the rights of root, which may write everywhere, behind."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


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
