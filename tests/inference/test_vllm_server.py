"""A `vllm` on PATH that is none: found, checked, started, lost, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_vllm import VERSION, install, read_pids
from tiny_records import make_factuality, make_hallucination, make_image

from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import MachineLimitError, ModelError, SetupError
from hkdcli.inference import supervisor
from hkdcli.inference.vllm_open import check_adapter, find_lora_rank, open_vllm
from hkdcli.inference.vllm_program import check_version, find_vllm
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.loading import load_model

EXAMPLES = [make_hallucination(), make_factuality(), make_hallucination("h2")]
IMAGES = [make_image(i) for i in range(3)]
SHOWN = [(identity_presentation(example),) for example in EXAMPLES]


@pytest.fixture
def install_fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def put(**plan: Any) -> Path:
        path = install(tmp_path / "bin", **plan)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_VLLM_PLAN", str(path))
        return path

    return put


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not, and nobody may be there to take it away."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")


def await_end(plan: Path, within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while alive := [pid for pids in read_pids(plan) for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.05)


def test_a_model_is_served_asked_and_nothing_is_left(install_fake, tiny_llava):
    plan = install_fake()
    with open_vllm(tiny_llava, max_length=500) as scorer:
        scored = scorer.score(EXAMPLES, IMAGES, SHOWN)
        assert all(is_alive(pid) for pid in read_pids(plan)[0])
        arguments = plan.with_name("arguments").read_text().split("\n")
        assert not any(scorer._server.client._headers["Authorization"][7:] in each for each in arguments)
    await_end(plan)
    assert [result.log_probs.shape for result in scored] == [(1, 8), (1, 4), (1, 8)]
    options = dict(zip(arguments[2:-1:2], arguments[3::2], strict=False))
    assert arguments[:2] == ["serve", str(tiny_llava.resolve())]
    assert options["--host"] == "127.0.0.1"
    assert options["--logprobs-mode"] == "processed_logprobs"
    assert options["--generation-config"] == "vllm"
    assert options["--max-model-len"] == "500"
    assert "--enable-lora" not in arguments


def test_weights_hash_tells_models_and_versions_apart(install_fake, tiny_llava, tiny_qwen):
    hashes = []
    for model, version in [
        (tiny_llava, VERSION),
        (tiny_llava, VERSION),
        (tiny_qwen, VERSION),
        (tiny_llava, "0.34"),
    ]:
        install_fake(version=version)
        with open_vllm(model) as scorer:
            hashes.append(scorer.weights_hash)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def make_adapter(model: Path, folder: Path, **options: Any) -> Path:
    settings: dict[str, Any] = {"rank": 12, "alpha": 4, **options}
    save_adapter(attach_lora(load_model(model).model, **settings), folder, source=str(model))
    return folder


def test_an_adapter_is_served_beside_its_base(install_fake, tiny_llava, tmp_path):
    plan, adapter = install_fake(), make_adapter(tiny_llava, tmp_path / "adapter")
    hashes = []
    for model, options in [(adapter, {}), (tiny_llava, {"adapter": adapter}), (tiny_llava, {})]:
        with open_vllm(model, **options) as scorer:
            scorer.score(EXAMPLES[:1], IMAGES[:1], SHOWN[:1])
            assert (
                scorer._server.client.model == ("hkd" if model == adapter or options else "m") or not options
            )
            hashes.append(scorer.weights_hash)
        if len(hashes) == 1:
            arguments = plan.with_name("arguments").read_text().split("\n")
    assert arguments[1] == str(tiny_llava.resolve())
    assert arguments[arguments.index("--lora-modules") + 1] == f"hkd={adapter.resolve()}"
    assert arguments[arguments.index("--max-lora-rank") + 1] == "16"
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_adapter_of_which_something_would_be_left_out_is_refused(install_fake, tiny_llava, tmp_path):
    plan = install_fake()
    for name, options in {"all": {"targets": "all"}, "projector": {"train_projector": True}}.items():
        with (
            pytest.raises(ModelError, match="more than the language model") as caught,
            open_vllm(make_adapter(tiny_llava, tmp_path / name, **options)),
        ):
            pass
        assert "hkd export" in caught.value.hint
    plain = make_adapter(tiny_llava, tmp_path / "plain")
    check_adapter(plain)
    settings = json.loads((plain / "adapter_config.json").read_text())
    (plain / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}))
    with pytest.raises(ModelError, match="plain low-rank"):
        check_adapter(plain)
    assert read_pids(plan) == []


@pytest.mark.parametrize(
    ("rank", "room"), [(1, 1), (2, 8), (16, 16), (17, 32), (512, 512), (513, None), ("8", None)]
)
def test_room_for_a_rank_is_what_vllm_can_be_told(rank, room):
    assert find_lora_rank(rank) == room


def test_c18_without_vllm_the_command_to_install_it_is_said(tmp_path, monkeypatch, tiny_llava):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SetupError, match="not installed") as caught, open_vllm(tiny_llava):
        pass
    assert caught.value.hint == 'pip install "hkd[vllm]"'
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("version", ["0.10.2", "0.19.0", "0.9", "", "unknown", "dev"])
def test_c18_an_old_or_unknown_version_is_refused_before_anything_starts(install_fake, tiny_llava, version):
    plan = install_fake(version=version)
    with (
        pytest.raises(SetupError, match=r"vLLM 0\.19\.1 or later is needed, found") as caught,
        open_vllm(tiny_llava),
    ):
        pass
    assert version in str(caught.value)
    assert read_pids(plan) == []


@pytest.mark.parametrize(
    "version", ["0.19.1", "0.19.1.post1", "0.20.0rc1", "0.33.0", "1.0", "0.34.0.dev7+g1234"]
)
def test_a_later_version_will_do(version):
    check_version(version, "a test")


def test_a_vllm_that_cannot_say_its_version_is_refused(install_fake):
    install_fake(version="Traceback: no torch", version_code=1)
    with pytest.raises(SetupError, match="found no version"):
        find_vllm()


def test_a_server_of_another_version_than_the_program_s_is_refused(install_fake, tiny_llava):
    plan = install_fake(server_version="0.8.0")
    with pytest.raises(SetupError, match="found '0.8.0' by the server"), open_vllm(tiny_llava):
        pass
    await_end(plan)


def test_r21_an_engine_that_does_not_start_is_told_with_its_last_lines(install_fake, tiny_llava):
    plan = install_fake(fails=[1])
    with (
        pytest.raises(
            SetupError, match="(?s)did not start: it ended with exit code 1.*model loaded"
        ) as caught,
        open_vllm(tiny_llava),
    ):
        pass
    assert caught.value.exit_code == 3
    await_end(plan)


def test_r21_memory_that_runs_out_at_the_start_is_a_machine_limit(install_fake, tiny_llava):
    install_fake(fails=[1], says="torch.OutOfMemoryError: CUDA out of memory.")
    with pytest.raises(MachineLimitError, match="out of memory"), open_vllm(tiny_llava):
        pass


def test_r21_an_engine_that_is_never_ready_is_ended_and_told(install_fake, tiny_llava):
    plan = install_fake(never_healthy=True)
    with (
        pytest.raises(SetupError, match="(?s)not ready after 1 s: it is still running.*model loaded"),
        open_vllm(tiny_llava, timeout_s=1),
    ):
        pass
    await_end(plan)


def test_r11_an_engine_that_ends_within_a_batch_is_started_again(install_fake, tiny_llava):
    install_fake()
    with open_vllm(tiny_llava) as scorer:
        expected = scorer.score(EXAMPLES, IMAGES, SHOWN)
    plan = install_fake(dies_at=[4])
    plan.with_name("pids").unlink()
    with open_vllm(tiny_llava) as scorer:
        scored = scorer.score(EXAMPLES, IMAGES, SHOWN)
        assert len(read_pids(plan)) == 2
    for one, other in zip(expected, scored, strict=True):
        np.testing.assert_array_equal(one.log_probs, other.log_probs)
    await_end(plan)


def test_r11_an_engine_that_ends_twice_ends_the_run_with_its_last_lines(install_fake, tiny_llava):
    plan = install_fake(dies_at=[4, 2])
    with open_vllm(tiny_llava) as scorer, pytest.raises(MachineLimitError) as caught:
        scorer.score(EXAMPLES, IMAGES, SHOWN)
    assert caught.value.exit_code == 4
    assert str(caught.value).count("it ended with exit code 9") == 2
    assert str(caught.value).count("illegal memory access") == 2
    await_end(plan)


OPENS = """
import sys, time
from pathlib import Path
from hkdcli.inference.vllm_open import open_vllm
with open_vllm(sys.argv[1]):
    Path(sys.argv[2]).touch()
    time.sleep(600)
"""


def test_r10_the_engine_and_its_children_end_with_a_parent_that_is_killed(install_fake, tiny_llava, tmp_path):
    plan, ready = install_fake(), tmp_path / "ready"
    parent = subprocess.Popen(
        [sys.executable, "-c", OPENS, str(tiny_llava), str(ready)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (pids,) = read_pids(plan)
    assert all(is_alive(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    await_end(plan)


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); "
STUBBORN += "time.sleep(600)"
IMPATIENT = "import sys; sys.path.insert(0, sys.argv.pop(1)); import supervisor; supervisor.GRACE_S = 0.3; "
IMPATIENT += "sys.exit(supervisor.main(sys.argv[1:]))"


def start_supervisor(*command: str, parent: int | None = None) -> subprocess.Popen[bytes]:
    folder = str(Path(supervisor.__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-S", "-c", IMPATIENT, folder, str(parent or os.getpid()), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_supervisor_hands_on_the_exit_code():
    for code, program in [
        (0, "pass"),
        (7, "import sys; sys.exit(7)"),
        (137, "import os; os.kill(os.getpid(), 9)"),
    ]:
        with start_supervisor(sys.executable, "-S", "-c", program) as process:
            assert process.wait(20) == code
    with start_supervisor("no-such-program") as process:
        assert process.wait(20) == supervisor.CANNOT_RUN
        assert b"no-such-program: cannot be run" in process.stdout.read()


@pytest.mark.parametrize("how", ["end of input", "SIGTERM", "another parent"])
def test_the_supervisor_ends_an_engine_that_ignores_sigterm(how):
    parent = os.getppid() if how == "another parent" else None
    with start_supervisor(sys.executable, "-S", "-c", STUBBORN, parent=parent) as process:
        if how == "end of input":
            assert process.stdout.readline() == b"up\n"
            process.stdin.close()
        elif how == "SIGTERM":
            assert process.stdout.readline() == b"up\n"
            process.terminate()
        assert process.wait(20) in (137, 143)  # without a parent it may not have come to ignoring anything


def test_the_supervisor_needs_no_package():
    names = [
        line.split()[1] for line in Path(supervisor.__file__).read_text().splitlines() if "import " in line
    ]
    assert not any(name.startswith(("hkdcli", "psutil")) for name in names)
