"""How many of the 106 rows of docs/faults.md are green.

A test is of a row where its name says so: `test_i03_cut_files`, `test_d26_i24_leak_by_id_or_pixels`. A row
is green when all of its tests that ran passed, and one ran at least.

python benchmarks/faults/rows.py                 run the tests of all rows, but for the slow ones
python benchmarks/faults/rows.py --slow          the slow ones too
python benchmarks/faults/rows.py --junit FILE    of a run that there was: pytest --junitxml FILE
python benchmarks/faults/rows.py --json FILE     write the figures as JSON too
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
STATES = ("green", "red", "only with a GPU", "not run")
_ROW = re.compile(r"^\| ([IDCMR]\d\d) \|", re.MULTILINE)
_IN_NAME = re.compile(r"(?<=_)[idcmr]\d\d(?=_|$|\[)")


@dataclass(frozen=True, slots=True)
class RowTest:
    """One test function and the rows that its name says it is of."""

    path: Path
    name: str
    rows: tuple[str, ...]
    needs_gpu: bool


def list_rows(page: Path = PAGE) -> list[str]:
    """The rows of the page, in its order."""
    return _ROW.findall(page.read_text("utf-8"))


def read_rows_of_name(name: str) -> tuple[str, ...]:
    """The rows that a test's name says it is of: R04 and R05 of `test_r04_r05_...`."""
    return tuple(row.upper() for row in _IN_NAME.findall(name.partition("[")[0]))


def find_row_tests(tests: Path = ROOT / "tests") -> list[RowTest]:
    """Every test function whose name has a row in it, read from the files without importing them."""
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        marks = [ast.unparse(node.value) for node in tree.body if _is_marks(node)]  # type: ignore[attr-defined]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                own = [*marks, *map(ast.unparse, node.decorator_list)]
                if rows := read_rows_of_name(node.name):
                    found.append(RowTest(path, node.name, rows, "pytest.mark.gpu" in " ".join(own)))
    return found


def _is_marks(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"


def run_tests(tests: Iterable[RowTest], report: Path, *, slow: bool) -> None:
    """Run them once in one process of pytest, which writes what happened to `report`."""
    names = [f"{test.path.relative_to(ROOT)}::{test.name}" for test in tests if not test.needs_gpu]
    marks = "not gpu" if slow else "not gpu and not slow"
    command = [sys.executable, "-m", "pytest", "-m", marks, f"--junitxml={report}", *names]
    subprocess.run(command, cwd=ROOT, check=False)
    if not report.exists():
        raise SystemExit("pytest wrote no report; see what it says above")


def read_report(report: Path) -> dict[str, Counter[str]]:
    """Row -> how many of its tests passed, failed and were skipped, parametrized ones one by one."""
    counts: dict[str, Counter[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        ended = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        for row in read_rows_of_name(case.get("name", "")):
            counts.setdefault(row, Counter())[ended] += 1
    return counts


def judge(
    rows: Sequence[str], tests: Iterable[RowTest], counts: Mapping[str, Counter[str]]
) -> dict[str, dict[str, Any]]:
    """What each row has come to.

    Args:
        rows: Those of the page.
        tests: All tests of rows.
        counts: As `read_report` has them.

    Returns:
        Row -> state, and numbers of tests.
    """
    without_gpu = {row for test in tests if not test.needs_gpu for row in test.rows}
    judged = {}
    for row in rows:
        count = counts.get(row, Counter())
        if count["failed"]:
            state = "red"
        elif count["passed"]:
            state = "green"
        else:
            state = "not run" if row in without_gpu else "only with a GPU"
        judged[row] = {"state": state, **{ended: count[ended] for ended in ("passed", "failed", "skipped")}}
    return judged


def render(judged: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as lines of text, the sum last."""
    lines = ["row  passed  failed  skipped  state"]
    lines += [
        f"{row}  {each['passed']:>6}  {each['failed']:>6}  {each['skipped']:>7}  {each['state']}"
        for row, each in judged.items()
    ]
    states = Counter(each["state"] for each in judged.values())
    others = "".join(f", {states[state]} {state}" for state in STATES[1:] if states[state])
    return "\n".join([*lines, f"{states['green']} of {len(judged)} rows green{others}"])


def main() -> int:
    """Returns 1 where a row is not green."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--slow", action="store_true", help="run tests that are marked slow too")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="a report of pytest: run nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options, tests = parser.parse_args(), find_row_tests()
    with tempfile.TemporaryDirectory() as folder:
        report = options.junit or Path(folder) / "report.xml"
        if options.junit is None:
            run_tests(tests, report, slow=options.slow)
        judged = judge(list_rows(), tests, read_report(report))
    print(render(judged))
    if options.json is not None:
        green = sum(each["state"] == "green" for each in judged.values())
        document = {"green": green, "rows": len(judged), "by_row": judged}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(each["state"] != "green" for each in judged.values()))


if __name__ == "__main__":
    sys.exit(main())
