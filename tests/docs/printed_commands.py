"""Commands as pages print them: lines of fenced blocks that begin with a program we speak of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [page for page in (README, *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
# Those that a test follows from top to bottom; the commands of the others are run one by one.
WALKED = [ROOT / "docs" / "own-data.md", ROOT / "docs" / "tutorial.md"]
# Those of accelerate/ are settings of a launcher; tests/distributed runs them.
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name != "accelerate")
PROGRAMS = ("hkd", "make", "python", "python3")

_FENCE = re.compile(r"^\s*(```+|~~~+)")
_PROMPT = re.compile(r"^\$\s+")
_REDIRECTION = re.compile(r"\s\d?(>>?|<)\s*(&\d|[^\s&]+)")
_PLACEHOLDER = re.compile(r"<[\w -]+>|(?<!\S)\[[\w -]+\]|\.\.\.|(?<![\w./=-])[A-Z][A-Z_]+(?![\w./=:-])")
_BIN = re.compile(r"^(\S*/)?bin/")  # .venv/bin/hkd is hkd


@dataclass(frozen=True, slots=True)
class Command:
    """One command: where it stands, its words without redirections, and the line as it is printed."""

    where: str
    words: tuple[str, ...]
    line: str

    @property
    def placeholders(self) -> list[str]:
        """What nobody can type: MODEL, <name>, [options], ..."""
        return [match[0] for match in _PLACEHOLDER.finditer(self.line.partition(" #")[0])]

    def __str__(self) -> str:
        return " ".join(self.words)


def list_commands() -> list[Command]:
    """Every command of every page, and of the comments on top of every recipe; each once."""
    found: dict[tuple[str, ...], Command] = {}
    for page in (*(page for page in PAGES if page not in WALKED), *RECIPES):
        lines = _list_comments(page) if page in RECIPES else list_fenced_lines(page.read_text("utf-8"))
        for number, line in lines:
            for words in split_commands(line):
                found.setdefault(words, Command(f"{page.relative_to(ROOT)}:{number}", words, line))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: its language, the file name that it stands under, and its text."""

    language: str
    title: str
    text: str


def list_fences(text: str) -> Iterator[Fence]:
    """The fenced blocks of a page that are not indented, in order."""
    for words, inside in re.findall(r"^```([^`\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        title = re.search(r'title="([^"]+)"', words)
        yield Fence(words.split(" ")[0], title[1] if title else "", inside)


def list_inline_commands() -> list[Command]:
    """Commands that stand within a sentence or a table: `hkd NAME ...` between backticks."""
    found = []
    for page in PAGES:
        for code in re.findall(r"`(hkd [a-z-]+ [^`\n]*)`", _drop_fences(page.read_text("utf-8"))):
            found += [Command(page.name, words, code) for words in split_commands(code)]
    return found


def _drop_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def list_fenced_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line inside a fence, continued lines joined."""
    fence, joined = "", ""
    for number, line in enumerate(text.split("\n"), start=1):
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence, joined = ("" if fence else mark[1]), ""
        elif fence and line.endswith("\\"):
            joined += line[:-1] + " "
        elif fence:
            yield number, joined + line
            joined = ""


def split_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of ours in a line of shell: `hkd a && hkd b | head` are two."""
    line = _PROMPT.sub("", line.strip())
    if not re.match(rf"(\S*/)?({'|'.join(PROGRAMS)})\s", line):
        return
    for words in _split_shell(line):
        program = _BIN.sub("", words[0])
        if program in PROGRAMS:
            yield (program, *words[1:])


def _split_shell(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(_REDIRECTION.sub("", line), posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if re.fullmatch(r"[&|;]+", word):
            yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words


def _list_comments(recipe: Path) -> Iterator[tuple[int, str]]:
    """Commands in a recipe's comments: `# Run it: hkd ...`, or a line of their own."""
    for number, line in enumerate(recipe.read_text("utf-8").split("\n"), start=1):
        said = re.match(rf"#\s*(?:Run it:)?\s*((?:{'|'.join(PROGRAMS)}) .*)", line)
        if said:
            yield number, said[1]
