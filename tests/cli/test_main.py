"""Exit codes, and the command line as a process: C09-C16, C18, R05 and R21."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from hkdcli import engine
from hkdcli.__main__ import check_python, main
from hkdcli.errors import (
    DataError,
    GateError,
    HkdError,
    MachineLimitError,
    ModelError,
    OfflineError,
    SetupError,
    StoppedError,
    UsageError,
)
from hkdcli.inferring import InferOptions
from hkdcli.outcome import Outcome
from hkdcli.predicting import Output

COMMANDS = ["distill-online", "distill-refine", "infer", "evaluate", "doctor", "schema"]


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hkdcli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        env={**os.environ, **(env or {})},
        timeout=60,
    )


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def schema(command: str) -> Outcome:
        raise error

    monkeypatch.setattr(engine, "schema", schema)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DataError("x"), 3),
        (ModelError("x"), 3),
        (SetupError("x"), 3),
        (MachineLimitError("x"), 4),
        (GateError("x"), 6),
        (OfflineError("x"), 7),
        (StoppedError("x", signal_number=2), 130),
        (StoppedError("x", signal_number=15), 143),
        (HkdError("x"), 1),
        (RuntimeError("x"), 1),
        (AssertionError("x"), 1),
        (FileNotFoundError("x"), 1),
        (MemoryError("x"), 4),
        (type("OutOfMemoryError", (RuntimeError,), {})("x"), 4),
        (KeyboardInterrupt(), 130),
        (RuntimeError("CUDA error: device-side assert triggered"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_way_to_end_has_its_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    fail_with(monkeypatch, error)
    monkeypatch.setattr(os, "dup2", lambda a, b: b)
    assert main(["schema"]) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_r05_a_signal_ends_a_command_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Whatever catches failures on the way up lets it pass, and what is open is closed."""
    closed, before = [], signal.getsignal(number)

    def schema(command: str) -> Outcome:
        try:
            with contextlib.suppress(Exception):
                os.kill(os.getpid(), number)
                time.sleep(5)
        finally:
            closed.append(True)
        raise AssertionError("the signal was lost")

    monkeypatch.setattr(engine, "schema", schema)
    assert main(["schema"]) == 128 + number
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"stopped at once by {number.name}" and len(said) == 2 and said[1].startswith("hint: ")
    assert closed == [True] and signal.getsignal(number) is before


@pytest.mark.parametrize("said", ["unspecified launch failure", "uncorrectable ECC error encountered"])
def test_r21_a_gpu_that_fails_on_the_way_is_a_machine_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    """As torch.AcceleratorError, a RuntimeError, has it."""
    fail_with(monkeypatch, RuntimeError(f"CUDA error: {said}\nCUDA kernel errors might be asynchronous"))
    assert main(["schema"]) == MachineLimitError.exit_code
    shown = capsys.readouterr().err
    assert shown.startswith(f"the GPU failed: CUDA error: {said}\nhint: ") and "--resume" in shown


def test_a_bug_of_ours_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(monkeypatch, ZeroDivisionError("oh"))
    assert main(["schema"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "hkd stopped: ZeroDivisionError: oh\nThis is a bug of ours" in said.err


def test_records_that_failed_give_5(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "infer", lambda *_, **__: Outcome({}, failed_records=3))
    assert main(["infer", "m", "d", "--out", str(tmp_path / "p")]) == 5


def test_usage_errors_give_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infr"]) == 2
    assert main(["infer", "m", "d"]) == 2
    assert main(["infer", "m", "d", "--out", "p", "--shifts", "0"]) == 2
    assert main(["infer", "m", "d", "--out", "p", "--shift", "--shifts", "2"]) == 2
    assert main(["distill-online", "absent.yaml"]) == 2
    assert main([]) == 2
    assert capsys.readouterr().out.count("Usage") <= 1


def test_options_reach_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(engine, "infer", lambda *given, **named: seen.append((*given, named)) or Outcome({}))
    out = str(tmp_path / "p")
    assert main(["infer", "m", "d", "--out", out]) == 0
    assert (
        main(["infer", "m", "d", "--out", out, "--shift", "--level", "large", "--on-bad", "skip", "--resume"])
        == 0
    )
    assert main(["infer", "m", "d", "--out", out, "--shifts", "2", "--base", "b", "--limit", "3"]) == 0
    first, second, third = seen
    assert first[2] == InferOptions() and second[2] == InferOptions(level="large", shifts=None)
    assert third[2] == InferOptions(base="b", shifts=2)
    assert second[1].on_bad == "skip" and third[1].limit == 3  # type: ignore[attr-defined]
    assert second[3]["output"] == Output(Path(out), resume=True)  # type: ignore[index]


def test_c09_a_traceback_shows_no_locals_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = "name: x\ntoken: hf_abcdefghijklmnopqrstuvwx\nseed: hf_abcdefghijklmnopqrstuvwx\n"
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"hkd-secret-{os.getpid()}.yaml"
    path.write_text(recipe)
    try:
        said = run("distill-online", str(path), "--json")
    finally:
        path.unlink()
    assert said.returncode == 2
    assert "hf_abc" not in said.stdout + said.stderr and "***" in said.stderr


def test_c10_recipe_paths_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "empty.yaml"):
        assert main(["distill-online", str(path)]) == 2


ENCODINGS = {
    "C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
}


@pytest.mark.parametrize("env", ENCODINGS.values(), ids=ENCODINGS)
def test_c11_help_in_every_encoding(env: dict[str, str]) -> None:
    said = run("--help", env=env)
    assert said.returncode == 0 and said.stderr == ""
    assert all(command in said.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_c11_help_of_ours_is_ascii_and_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Examples:" in said and f"hkd {command}" in said
    assert re.sub(r"[╭╮╰╯│─]", "", said).isascii()  # the frame is rich's, which falls back to ASCII by itself


def test_c11_data_that_the_encoding_lacks(tmp_path: Path) -> None:
    said = run("distill-online", str(tmp_path / "\u4e2d.yaml"), env=ENCODINGS["ascii"])
    assert said.returncode == 2
    assert "\\u4e2d.yaml: no such recipe" in said.stderr


@pytest.mark.parametrize("arguments", ["--help", "schema", "infer --help"])
def test_c12_a_reader_that_leaves_is_no_error(arguments: str) -> None:
    command = f"{sys.executable} -m hkdcli {arguments} | head -1"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert said.stderr == ""


def test_c12_a_reader_that_has_left_has_its_exit_code() -> None:
    command = f"{{ sleep 1; {sys.executable} -m hkdcli schema; }} | true; exit ${{PIPESTATUS[0]}}"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("arguments", ["schema", "--help"])
def test_a_closed_stdout_is_no_error(arguments: str) -> None:
    command = f"{sys.executable} -m hkdcli {arguments} >&-"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stderr) == (0, "")


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    """What a library writes to descriptor 1 or 2 would end up in it."""
    program = "import os; from hkdcli.__main__ import main; main(['--version']); os._exit(os.dup(0) < 3)"
    command = f'{sys.executable} -c "{program}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", command], timeout=60).returncode == 0


def test_r05_a_second_signal_after_the_end_says_nothing() -> None:
    """Python clears up in code of others (atexit), which would say where it was interrupted."""
    program = (
        "import atexit, os, signal, time\n"
        "from hkdcli.__main__ import main\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(5)))\n"
        "main()"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, "--version"], capture_output=True, text=True, timeout=60
    )
    assert (said.returncode, said.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES])
def test_a_path_that_the_system_refuses_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    fail_with(monkeypatch, OSError(number, os.strerror(number), "some/file"))
    assert main(["schema"]) == SetupError.exit_code
    assert capsys.readouterr().err.startswith(f"some/file: {os.strerror(number)}\n")


def test_c12_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hkdcli", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["schema"], ["--version"], ["distill-online", "absent", "--json"]]
)
def test_c13_a_full_disk_under_stdout_is_an_error(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "hkdcli", *arguments]
        said = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert said.returncode == 4
    assert "no space left" in said.stderr and "Traceback" not in said.stderr


def test_c14_json_stays_one_document_when_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill-online", "absent.yaml", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_c14_usage_errors_are_documents_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_code"] == 2
    assert "Missing argument" in said.err


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=str)
def test_c15_no_escape_codes_in_a_pipe(env: dict[str, str]) -> None:
    for arguments in (["--help"], ["--version"], ["distill-online", "absent"], ["nothing"]):
        said = run(*arguments, env=env)
        assert "\x1b" not in said.stdout + said.stderr


def test_c15_no_colour_wins_over_forced_colour() -> None:
    said = run("distill-online", "absent", env={"NO_COLOR": "1", "FORCE_COLOR": "1"})
    assert re.findall(r"\x1b\[[0-9;]*3[0-7]m", said.stderr) == []


HEAVY = ("torch", "transformers", "numpy", "pydantic", "yaml", "PIL", "sklearn")


def loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted(sys.modules), file=sys.stderr)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    return set(said.stderr.split())


HELP = "from hkdcli.__main__ import main; main(['--help'])"


def test_c16_help_is_light() -> None:
    """Beside what Typer and Rich need of the standard library, it is hkd's own few modules."""
    of_others = loaded(
        "import typer.rich_utils, rich.markdown, rich.traceback, importlib.metadata, sysconfig"
    )
    more = loaded(HELP) - of_others
    assert not more & set(HEAVY)
    assert len([name for name in more if not name.startswith("hkdcli")]) < 25, sorted(more)


@pytest.mark.slow
def test_c16_help_is_quick() -> None:
    """Not among the fast tests: beside other work on its core, a start takes half as long again."""
    spent_s = []
    for _ in range(5):
        before = os.times()
        loaded(HELP)
        after = os.times()
        spent_s.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    assert min(spent_s) < 0.45


def test_c16_a_bad_recipe_and_evaluate_never_load_torch(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("nme: x")
    bad = ["distill-online", str(tmp_path / "bad.yaml"), "--dry-run"]
    assert not loaded(f"from hkdcli.__main__ import main; main({bad})") & {"torch", "transformers", "numpy"}
    (tmp_path / "p.jsonl").write_text('{"id": "x", "prediction": ["A"], "status": "ok"}\n')
    scored = ["evaluate", str(tmp_path / "p.jsonl"), "scenes:test", "--json"]
    modules = loaded(f"from hkdcli.__main__ import main; assert main({scored}) == 0")
    assert "numpy" in modules and not modules & {"torch", "transformers"}


def test_packages_that_are_imported_say_nothing() -> None:
    """bitsandbytes speaks of other packages of its own, and would before every plan and diagnosis."""
    code = "import hkdcli, bitsandbytes"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_c18_an_old_python_is_refused() -> None:
    with pytest.raises(SetupError, match="Python 3.10 is too old; hkd needs 3.11 or newer"):
        check_python((3, 10))
    check_python((3, 11))


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("pyarrow.parquet", 'pip install "hkd[parquet]"'),
        ("bitsandbytes", "pip install --force-reinstall hkd"),
    ],
)
def test_c18_a_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str, said: str
) -> None:
    fail_with(monkeypatch, ModuleNotFoundError(f"No module named {package!r}", name=package))
    assert main(["schema"]) == 3
    assert f"hint: {said}\n" in capsys.readouterr().err


def test_c18_a_missing_module_of_ours_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ModuleNotFoundError("No module named 'hkdcli.x'", name="hkdcli.x"))
    assert main(["schema"]) == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"hkd \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_docs_are_fresh() -> None:
    script = Path(__file__).parents[2] / "docs" / "generate.py"
    said = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=60
    )
    assert said.returncode == 0, said.stderr
