"""What pages point at exists, and nothing that is tracked knows the machine it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from printed_commands import PAGES, README, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A name of the tree: a folder with its slash, a file with its suffix, or one of those without any.
NAME = re.compile(r"[\w.\-]+(/[\w.\-]+)*(/|\.\w+)|Makefile|LICENSE")
HOMES = "|".join(("work", "root"))


def list_links(text: str) -> list[str]:
    """Targets of the links of a page that lead to files: neither the web nor the page itself."""
    without_code = re.sub(r"(```.*?```|`[^`\n]*`)", "", text, flags=re.DOTALL)
    return [link for link in LINK.findall(without_code) if not re.match(r"[a-z]+:|#", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = list_links(page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


def list_tree(text: str) -> list[str]:
    """The paths of the file tree in a page: the fenced block with a line that begins with `hkdcli/`."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    tree = next((block for block in blocks if re.search(r"^\W*hkdcli/(\s|$)", block, re.MULTILINE)), "")
    paths: list[str] = []
    folders: list[tuple[int, str]] = []  # those that a line may lie in, with their indentation
    for line in tree.split("\n"):
        plain = re.sub(r"[│├└─|`]", " ", line)
        depth = len(plain) - len(plain.lstrip())
        names = take_names(plain)
        folders = [(indent, folder) for indent, folder in folders if indent < depth]
        here = "".join(folder for _, folder in folders)
        paths += [here + name for name in names]
        if names and names[0].endswith("/"):
            folders.append((depth, names[0]))
    return paths


def take_names(line: str) -> list[str]:
    """The names that a line begins with, before what is said about them."""
    names = []
    for word in line.split():
        if not NAME.fullmatch(word.rstrip(",")):
            break
        names.append(word.rstrip(","))
    return names


@pytest.mark.skipif(not README.exists(), reason="this checkout has no README.md")
def test_the_file_tree_of_the_readme_is_the_tree() -> None:
    paths = list_tree(README.read_text("utf-8"))
    assert "hkdcli/cli.py" in paths, paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_a_file_tree_is_read() -> None:
    text = """
```
hkdcli/
  cli.py   the command line, e.g. hkd
  data/    records
    examples.py, images.py  the loaders
Makefile  all of it
recipes/
├── quickstart.yaml  the recipe
└── real/x.yaml      another
```
"""
    assert list_tree(text) == [
        "hkdcli/",
        "hkdcli/cli.py",
        "hkdcli/data/",
        "hkdcli/data/examples.py",
        "hkdcli/data/images.py",
        "Makefile",
        "recipes/",
        "recipes/quickstart.yaml",
        "recipes/real/x.yaml",
    ]


def list_tracked() -> list[Path]:
    """Every file that git tracks here; none where this is no checkout."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return []
    names = done.stdout.split("\0")[:-1] if done.returncode == 0 else []
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def test_no_file_names_a_machine() -> None:
    """Folders of a machine: a reader has none of them. Tests may speak of the temporary folder."""
    tracked = list_tracked()
    if not tracked:
        pytest.skip("no git checkout")
    found = []
    for path in tracked:
        names = HOMES if path.is_relative_to(ROOT / "tests") else f"{HOMES}|tmp"
        for match in re.finditer(rf"(?<![\w./*-])/({names})/\S*", path.read_text("utf-8", errors="ignore")):
            found.append(f"{path.relative_to(ROOT)}: {match[0]}")
    assert found == []
