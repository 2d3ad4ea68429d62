"""docs/faults.md says what is so: rows have tests, codes and messages are in the source, exit codes exist."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "faults"))
from rows import PAGE, ROOT, find_row_tests, judge, list_rows, read_report, read_rows_of_name, render

from hkdcli import errors

# What codes of records and images begin with, on this page.
CODE = re.compile(r"(image|record|data|prompt|invalid|engine|prediction)\.[a-z0-9_]+")
CELLS = [line for line in PAGE.read_text("utf-8").split("\n") if re.match(r"\| [IDCMR]\d\d \|", line)]


@cache
def read_source(folder: str) -> str:
    """Every text in the source of a folder, one after another; a gap where something is filled in."""
    texts: list[str] = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        todo: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            todo += [] if is_docstring else list(ast.iter_child_nodes(node))
    return "\0".join(texts)


def split_row(line: str) -> list[str]:
    """Cells of a line of a table: row, what goes wrong, what you see, exit, what to do."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def list_codes(line: str) -> list[str]:
    return [text for text in re.findall(r"`([^`]+)`", split_row(line)[2]) if CODE.fullmatch(text)]


def list_messages(line: str) -> list[str]:
    """Texts that are quoted as what one sees: of several words, and no command."""
    quoted = re.findall(r"`([^`]+)`", split_row(line)[2])
    return [text for text in quoted if " " in text and not re.match(r"(hkd|pip|hf|ulimit|status) ", text)]


def test_the_page_has_every_row_once_in_order() -> None:
    counts = {"I": 24, "D": 27, "C": 18, "M": 15, "R": 22}
    assert list_rows() == [
        f"{kind}{number:02}" for kind, count in counts.items() for number in range(1, count + 1)
    ]
    assert len(list_rows()) == 106


def test_every_row_has_a_test_of_its_name_and_every_such_test_a_row() -> None:
    tested = {row for test in find_row_tests() for row in test.rows}
    assert tested == set(list_rows())


def test_every_row_but_none_has_a_test_that_needs_no_gpu() -> None:
    """What needs a GPU is checked otherwise beside it."""
    assert {row for test in find_row_tests() if not test.needs_gpu for row in test.rows} == set(list_rows())


@pytest.mark.parametrize("line", CELLS, ids=lambda line: line[2:5])
def test_what_a_row_says_is_so(line: str) -> None:
    """Codes are in the source and in a test, messages in the source, exit codes among ours."""
    assert len(split_row(line)) == 5 and all(split_row(line))
    source, tests = read_source("hkdcli"), read_source("tests")
    for code in list_codes(line):
        kind, _, name = code.partition(".")
        assert code in source or f"{kind}." in source and name in source.split("\0"), code
        assert code in tests, f"{code}: no test speaks of it"
    for message in list_messages(line):
        for piece in re.split(r"\bN\b", message):
            assert piece.strip() in source, f"nothing says {piece!r}"
    known = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert {int(code) for code in split_row(line)[3].split(", ")} <= known | {0, 5, 130, 141, 143}


def test_a_page_that_is_wrong_is_found() -> None:
    """Codes and messages that there are not, and a row of four cells."""
    wrong = "| I01 | x | `image.nothing`, `no message says this` | 9 | y |"
    assert list_codes(wrong) == ["image.nothing"] and list_messages(wrong) == ["no message says this"]
    assert "image.nothing" not in read_source("hkdcli") and len(split_row("| I01 | a \\| b | c |")) == 3


def test_rows_are_read_off_names() -> None:
    assert read_rows_of_name("test_d26_i24_leak_by_id_or_pixels") == ("D26", "I24")
    assert read_rows_of_name("test_r05_x[i03-c04_d05_]") == ("R05",)
    assert read_rows_of_name("test_utf16_x_i1_r0004") == ()


REPORT = """<testsuites><testsuite>
<testcase name="test_i01_a"/><testcase name="test_i01_i02_b[x]"/>
<testcase name="test_i02_c"><failure message="no"/></testcase>
<testcase name="test_i03_d"><skipped/></testcase>
<testcase name="test_i05_e"/><testcase name="test_i05_f"><skipped/></testcase>
</testsuite></testsuites>"""


def test_a_row_is_green_when_all_that_ran_passed_and_one_ran(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    judged = judge(
        ["I01", "I02", "I03", "I04", "I05"], find_row_tests(), read_report(tmp_path / "report.xml")
    )
    assert [each["state"] for each in judged.values()] == ["green", "red", "not run", "not run", "green"]
    assert judged["I02"] == {"state": "red", "passed": 1, "failed": 1, "skipped": 0}
    assert render(judged).endswith("2 of 5 rows green, 1 red, 2 not run")
    assert judge(["M08"], [], {})["M08"]["state"] == "only with a GPU"
