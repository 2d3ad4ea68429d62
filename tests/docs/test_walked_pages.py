"""Pages that are followed from top to bottom: every command is typed, in order, in one empty folder.

Files are those that the page shows under a name, outputs those that it prints: each line has to come, in
its order, whatever its numbers. Trainings are cut to two steps, plans to models of few layers.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from printed_commands import ROOT, WALKED, Fence, list_fences, split_commands
from quick_plans import of_few_layers, of_few_records, with_one_candidate
from tiny_families import FAMILIES

from hkdcli.__main__ import main
from hkdcli.data.examples import read_examples
from hkdcli.scenes.source import load_scenes, write_scenes

EXIT_CODES = {"hkd doctor mistakes.jsonl": 3}
FEWER_STEPS = (
    "train.max_steps=2",
    "train.warmup_steps=0",
    "train.evaluate_every=2",
    "train.checkpoint_every=2",
)
FEWER_CHECKS = {
    "distill-online": "distill.teacher_check.size=8",
    "distill-refine": "refine.teacher_check.size=8",
}


@pytest.mark.parametrize("page", WALKED, ids=lambda page: page.name)
def test_a_page_can_be_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if page.name == "tutorial.md":
        lay_out_photos()
    typed = 0
    for fence in list_fences(page.read_text("utf-8")):
        if fence.title:
            Path(fence.title).write_text(fence.text, "utf-8")
        elif not fence.language:
            typed += follow(fence)
    assert typed > 10


def lay_out_photos() -> None:
    """What lies in the folder of the tutorial, of drawn scenes and tiny models."""
    Path("hkd").symlink_to(ROOT)
    for level in ("large", "small"):
        FAMILIES["smolvlm"](Path("models", level))
    for name, task in (("task1", "hallucination"), ("task2", "factuality")):
        write_scenes(Path("coco"), load_scenes("test", size=40, tasks=(task,)))
        shutil.move("coco/records.json", f"coco/{name}.json")


def follow(fence: Fence) -> int:
    """Type the commands of a fence and look for what it shows below each; how many there were."""
    said, shown, typed = "", [], 0
    prompted = fence.text.startswith("$ ")
    for line in [*fence.text.split("\n"), "$ "]:
        is_command = line.startswith("$ ") or not prompted and bool(line)
        if not is_command:
            shown.append(line)
            continue
        check_shown(shown, said)
        shown = []
        if line != "$ ":
            said = type_line(line.removeprefix("$ "))
            typed += 1
    return typed


def type_line(line: str) -> str:
    """Type a command as a reader would, in a cheaper form; what it says."""
    if line.startswith("mv "):
        _, source, target = line.split()
        shutil.move(source, target)
        return ""
    if line.startswith("pip "):
        assert Path(line.split()[-1]).is_file(), line
        return ""
    ((program, *words),) = split_commands(line)
    if program == "python" and words[0].endswith("assemble.py"):
        assert Path(words[0]).is_file() and Path(words[-1]).is_dir(), line
        return ""
    if program == "python":
        assert words[:2] == ["-m", "hkdcli.scenes"], line
        from hkdcli.scenes.__main__ import app

        app(words[2:], standalone_mode=False)
        return ""
    assert program == "hkd", line
    if words[0].startswith("distill"):
        words += [*FEWER_STEPS, FEWER_CHECKS[words[0]]]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), of_few_layers() as patch:
        with_one_candidate(patch)
        of_few_records(patch)
        code = main(words)
    expected = next((code for begin, code in EXIT_CODES.items() if line.startswith(begin)), 0)
    assert code == expected, f"{line}: exit {code}\n{out.getvalue()}"
    return out.getvalue()


def check_shown(shown: list[str], said: str) -> None:
    """Each line that is shown has to be said, in this order, whatever its numbers; `...` is any others."""
    lines: Iterator[str] = iter([blur(line) for line in said.split("\n")])
    for line in shown:
        if line.strip() not in ("", "..."):
            assert blur(line) in lines, f"does not say, at its place: {line}\n{said}"


def blur(line: str) -> str:
    """Without what differs from machine to machine: numbers, width of columns, the best constant answer."""
    line = re.sub("always .* has", "always it has", line)
    return re.sub(r"(?<!\w)[-+]?\d+(\.\d+)?", "0", " ".join(line.split()))


def test_records_of_the_pages_are_read(tmp_path: Path) -> None:
    """Each as a file of its own; those that are shown as mistakes stand under a name."""
    path, read = tmp_path / "records.json", 0
    for page in WALKED:
        for fence in list_fences(page.read_text("utf-8")):
            if fence.language == "json" and not fence.title:
                path.write_text(fence.text, "utf-8")
                result = read_examples(path)
                assert not result.bad_rows and all(each.answer for each in result.examples)
                read += 1
    assert read == 3


# The tests above must be able to fail


def test_what_is_not_said_is_found() -> None:
    said = "Scores\nmicro_f1  0.5\nexact_match  0.7"
    check_shown(["Scores", "...", "exact_match 0.2"], said)
    for wrong in (["exact_match 0.7", "micro_f1 0.5"], ["micro_f2 0.5"], ["micro_f1 yes"]):
        with pytest.raises(AssertionError, match="does not say"):
            check_shown(wrong, said)


def test_a_fence_is_followed_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    assert follow(Fence("", "", "mv a b\nhkd --version")) == 2
    assert os.listdir() == ["b"]
    with pytest.raises(AssertionError, match="exit 2"):
        follow(Fence("", "", "$ hkd schema nothing"))
    with pytest.raises(AssertionError, match="does not say"):
        follow(Fence("", "", "$ hkd --version\nhkd of another name"))
