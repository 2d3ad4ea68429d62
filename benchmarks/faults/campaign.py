"""One command, interrupted at random moments and begun again; what it leaves is held against uninterrupted runs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from artefacts import compare, find_stable, read_artefacts
from kill_jobs import Job
from lives import Life, live


@dataclass
class Campaign:
    """One job, what its result must be, and what came of it so far."""

    job: Job
    folder: Path
    chance: random.Random
    whole_s: float = 0.0
    stable: Mapping[str, str | None] = field(default_factory=dict)
    kills: int = 0
    lives: int = 0
    compared: int = 0
    problems: list[str] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)

    def run_whole(self) -> None:
        """Run it twice to its end, and keep what both agree on."""
        seen = []
        for number in range(2):
            out = self.make_folder(f"whole-{number}")
            life = self.live(out, resume=False)
            if life.code != self.job.code:
                raise SystemExit(f"{self.job.name} exits {life.code} uninterrupted\n{life.said}")
            self.whole_s, found = life.seconds, read_artefacts(out)
            seen.append(found)
        self.stable = find_stable(*seen)

    def make_folder(self, name: str) -> Path:
        """An empty folder for a result; its own name is the same in all, as names get into manifests."""
        out = self.folder / name / "out"
        out.mkdir(parents=True)
        return out

    def live(
        self,
        out: Path,
        *,
        resume: bool,
        kill_after_s: float | None = None,
        prepare: Callable[[], None] = lambda: None,
        said: str = "said.txt",
    ) -> Life:
        """One life of the command; `resume`: it goes on where another has been."""
        words = [*self.job.first(out), *(self.job.again if resume else ())]
        return live(words, out.parent / said, kill_after_s=kill_after_s, prepare=prepare)

    def kill_until_done(self, out: Path, most: int) -> int:
        """Kill it at random moments until a life reaches its end or `most` kills are spent; then let it end."""
        killed = 0
        while killed < most:
            delay_s = self.chance.uniform(0, self.whole_s)
            life = self.live(out, resume=killed > 0, kill_after_s=delay_s)
            self.lives += 1
            if life.code != -9:
                return self.check(out, life, killed)
            killed += 1
            self.moments[find_newest(out)] += 1
        self.lives += 1
        return self.check(out, self.live(out, resume=True), killed)

    def check(self, out: Path, life: Life, killed: int) -> int:
        """The last life's code and what is there now."""
        self.kills += killed
        self.compared += 1
        if life.code != self.job.code:
            self.problems.append(f"{out.parent.name}: exit {life.code}: {life.said[-400:]}")
        self.problems += [f"{out.parent.name}: {text}" for text in compare(self.stable, read_artefacts(out))]
        return killed


def find_newest(out: Path) -> str:
    """The file that was written last, with its numbers left out: where in its work a command was killed."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    if not files:
        return "nothing yet"
    newest = max(files, key=lambda path: path.stat().st_mtime_ns).relative_to(out).as_posix()
    return "".join("#" if letter.isdigit() else letter for letter in newest)
