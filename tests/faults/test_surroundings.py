"""R15: the same records give the same bytes whatever the locale, the time zone and the name of the folder."""

from __future__ import annotations

import json
import locale
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from command_line import DEADLINE_S, ENVIRONMENT, call_hkd
from small_recipe import render_recipe

from hkdcli.scenes.source import load_scenes, write_scenes

ODD = "Ölçüm  ışığı \u6e2c\u5b9a"  # two spaces, letters of two scripts
INFER = ["infer", "scenes:small", "records.json", "--shift", "--out", "p.jsonl"]
EVALUATE = ["evaluate", "p.jsonl", "records.json", "--out", "results.json", "--per-record", "rows.csv"]
EVALUATE += ["--report", "report.html", "--report", "report.md"]
AUGMENT = ["augment", "records.json", "--images", "images", "--copies", "2", "--seed", "1", "--out", "more"]
DRY_RUN = ["distill-online", "recipe.yaml", "--dry-run", "--json"]
LOCALES = {"tr_TR.UTF-8": "UTF-8", "tr_TR.ISO-8859-9": "ISO-8859-9"}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four records with letters that a Turkish locale treats otherwise; read only."""
    folder = tmp_path_factory.mktemp("records")
    write_scenes(folder, load_scenes("test", size=4))
    rows = json.loads((folder / "records.json").read_text("utf-8"))
    for number, row in enumerate(rows):
        row |= {"id": f"KAYIT-ı-{number}", "meta": {"source": "İstanbul \u6e2c"}}
    (folder / "records.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (folder / "recipe.yaml").write_text(render_recipe("records.json"), "utf-8")
    return folder


@pytest.fixture(scope="module")
def expected(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands write in a plain folder; read only."""
    folder = tmp_path_factory.mktemp("plain") / "x"
    shutil.copytree(records, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (INFER, EVALUATE, AUGMENT):
            call_hkd(*words)
    return folder


@pytest.fixture(scope="session")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Turkish locales, of UTF-8 and of eight bits, for LOCPATH."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/tr_TR").exists():
        pytest.skip("this machine cannot make a Turkish locale")
    for name, encoding in LOCALES.items():
        subprocess.run(["localedef", "-i", "tr_TR", "-f", encoding, folder / name], check=True)
    return folder


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fourteen hours before Greenwich."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        assert time.strftime("%z") == "+1400"
        yield
    time.tzset()


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_r15_an_odd_folder_and_another_time_zone_change_no_byte(
    records: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far_away: None
) -> None:
    folder = shutil.copytree(records, tmp_path / ODD)
    monkeypatch.chdir(folder)
    for words in (INFER, EVALUATE, AUGMENT):
        call_hkd(*words)
    assert read_all(folder) == read_all(expected)
    again = call_hkd(*INFER, "--resume", "--json").document
    assert (again["total"], again["resumed"]) == (4, 4)
    assert call_hkd(*DRY_RUN).document["data"]["train"]["records"] == 4


def test_r15_names_and_paths_of_any_letters(
    records: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images, of files, given as absolute paths."""
    folder = shutil.copytree(records, tmp_path / ODD)
    rows = json.loads((folder / "records.json").read_text("utf-8"))
    for row in rows:
        odd = f"ı {row['image_id']}"
        (folder / "images" / row["image_id"]).rename(folder / "images" / odd)
        row["image_id"] = odd
    source, out = folder / "kayıtlar 1.json", folder / "ı.jsonl"
    source.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    call_hkd("infer", "scenes:small", source, "--shift", "--out", out)
    found, wanted = (
        [json.loads(line)["posterior"] for line in path.read_text("utf-8").splitlines()]
        for path in (out, expected / "p.jsonl")
    )
    assert found == wanted


@pytest.mark.parametrize("name", LOCALES)
def test_r15_a_turkish_locale_changes_no_byte(
    records: Path, expected: Path, turkish: Path, tmp_path: Path, name: str
) -> None:
    """In a process of its own; with eight bits the names of folders are other texts there."""
    more = {"LOCPATH": str(turkish), "LC_ALL": name, "PYTHONUTF8": "0", "TZ": "Pacific/Kiritimati"}
    check = "import locale; assert locale.setlocale(locale.LC_ALL, '')"
    check += f" and locale.getencoding() == {LOCALES[name]!r}"
    assert run_among(more, check, records, expected, tmp_path) == read_all(expected)


def test_r15_ascii_alone_is_enough(records: Path, expected: Path, tmp_path: Path) -> None:
    """The C locale, with everything switched off by which Python would make it UTF-8."""
    more = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run_among(more, "", records, expected, tmp_path) == read_all(expected)


def run_among(
    more: Mapping[str, str], check: str, records: Path, expected: Path, place: Path
) -> dict[str, bytes]:
    """What `evaluate` and `augment` leave in a process with more variables, which first runs `check`."""
    folder = shutil.copytree(records, place / ODD)
    shutil.copy(expected / "p.jsonl", folder)
    program = f"{check}\nimport sys; from hkdcli.__main__ import main\n"
    program += f"sys.exit(any(map(main, {[EVALUATE, AUGMENT]!r})))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**ENVIRONMENT, **more},
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return read_all(folder)


def test_numbers_and_letters_are_read_alike_in_a_turkish_locale(turkish: Path) -> None:
    """The premise of what is above: that locale does write numbers otherwise."""
    program = "import locale; locale.setlocale(locale.LC_ALL, ''); print(locale.str(0.5), '\u0130I'.lower())"
    more = {"LOCPATH": str(turkish), "LC_ALL": "tr_TR.UTF-8"}
    done = subprocess.run([sys.executable, "-c", program], env={**ENVIRONMENT, **more}, capture_output=True)
    assert done.stdout.decode().startswith("0,5 ") and locale.str(0.5) == "0.5"
