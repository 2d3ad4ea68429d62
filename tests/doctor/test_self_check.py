"""Our losses against their equations, and the checks against losses that are wrong."""

from __future__ import annotations

import math

import pytest
import torch
from looking import examine, list_wrong, look

from hkdcli.distill import losses, ternary
from hkdcli.doctor import references, scoring, self_check
from hkdcli.doctor.loss_cases import list_cases

CPU = torch.device("cpu")


def find_wrong() -> set[str]:
    return set(list_wrong(examine(self_check.examine_losses, CPU)))


def test_every_loss_is_right_and_every_divergence_is_among_them() -> None:
    assert find_wrong() == set()
    assert set(losses._PLAIN) | set(losses._MIXED) <= set(list_cases())


def test_bfloat16_inputs_are_within_what_a_gpu_is_allowed() -> None:
    for name, cases in list_cases().items():
        for case in cases:
            value, gradient = self_check._measure(case, CPU, torch.bfloat16)
            assert value < self_check.VALUE_TOLERANCE, name
            assert gradient < self_check.GRADIENT_TOLERANCE[torch.bfloat16], name


def test_the_references_hold_the_laws() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    p = references.soften(logits)
    torch.testing.assert_close(p.sum(-1), torch.ones(4, dtype=torch.float64))
    for name in ("forward_kl", "reverse_kl", "jsd", "skew_kl"):
        assert references.diverge(name, p, p, 0.3).abs().max() < 1e-12
        assert (references.diverge(name, p, p.flip(0), 0.3) > 0).all()
    p, q = torch.tensor([0.5, 0.5]).double(), torch.tensor([0.25, 0.75]).double()
    assert float(references.kl(p, q)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    kept = references.keep_columns(p[None], q[None], 1)
    assert [side.tolist() for side in kept] == [[[0.5, 0.5]], [[0.25, 0.75]]]


def test_nan_is_as_wrong_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    real = losses._PLAIN["forward_kl"]
    monkeypatch.setitem(losses._PLAIN, "forward_kl", lambda p, q: real(p, q) * float("nan"))
    assert "self.forward_kl" in find_wrong()


@pytest.mark.parametrize(
    ("home", "name", "broken", "found"),
    [
        (losses, "cross_entropy", lambda real: lambda z, t: real(z, t.roll(1)), {"cross_entropy"}),
        # The gradient alone is wrong.
        (
            losses,
            "cross_entropy",
            lambda real: lambda z, t: real(z, t) + 0.01 * (z - z.detach()).sum(),
            {"cross_entropy"},
        ),
        (losses, "_mix", lambda real: lambda p, q, beta: real(q, p, beta), {"jsd", "skew_kl"}),
        (
            losses,
            "_keep_top",
            lambda real: lambda pair, k: [s.topk(k).values for s in pair],
            {"forward_kl", "jsd"},
        ),
        (losses, "_scale", lambda real: lambda z, t, mask: real(z, 1.0, mask), {"forward_kl", "choice"}),
        (losses, "choice_logits", lambda real: lambda z, f, ids: real(z, f + 1, ids), {"choice"}),
        (ternary, "couple", lambda real: lambda said, kappa: real(said, 1.0), {"coupling"}),
        (ternary, "mix_log_probs", lambda real: lambda p, w: p.mean(0), {"response"}),
        (ternary, "compare_features", lambda real: lambda a, b, m: real(a, b, m) / 2, {"feature"}),
        (ternary, "_build_grams", lambda real: lambda t, m: real(t, m).abs(), {"relation"}),
    ],
)
def test_a_loss_that_is_wrong_is_found(home, name, broken, found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, name, broken(getattr(home, name)))
    assert {f"self.{each}" for each in found} <= find_wrong()


def test_a_loss_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ternary, "couple", lambda said, kappa: 1 / 0)
    checks = examine(self_check.examine_losses, CPU)
    assert list_wrong(checks) == {"self.coupling": "failed"}
    assert "unexpected ZeroDivisionError" in checks["self.coupling"].found


def test_shared_prefixes_are_right_and_wrong_positions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(scoring.check_scoring, CPU).status == "ok"
    from hkdcli.models import families

    real = families.continue_positions
    monkeypatch.setattr(families, "continue_positions", lambda ids, continued: real(ids, continued + 1))
    check = look(scoring.check_scoring, CPU)
    assert check.status == "failed" and "log-probabilities off by" in check.found
