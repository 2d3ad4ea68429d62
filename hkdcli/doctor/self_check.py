"""Whether the losses compute here what their equations say: on this device, values and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hkdcli.doctor.examination import Examination, Finding
from hkdcli.doctor.loss_cases import Case, list_cases

# Relative to the largest number compared. Values are computed in float32 whatever comes in; gradients come
# back in the type of what went in, and bfloat16 has 8 bits.
VALUE_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


def examine_losses(examination: Examination, device: torch.device) -> None:
    """Check every divergence and loss of both stages.

    Args:
        examination: Told what was found.
        device: What would train; the CPU is checked beside it.
    """
    devices = list(dict.fromkeys([torch.device("cpu"), device]))
    for name, cases in list_cases().items():
        examination.look(f"self.{name}", compare, cases, devices)


def compare(cases: Sequence[Case], devices: Sequence[torch.device]) -> Finding:
    """Compare losses and their gradients with float64.

    Args:
        cases: Of one loss.
        devices: Where; on a GPU in bfloat16 too.

    Returns:
        The largest relative error, as a failure where it is more than is tolerated.
    """
    worst, said = 0.0, []
    for device in devices:
        for dtype in (torch.float32, torch.bfloat16)[: 1 if device.type == "cpu" else 2]:
            value, gradient = (
                max(errors) for errors in zip(*(_measure(c, device, dtype) for c in cases), strict=True)
            )
            allowed = GRADIENT_TOLERANCE[dtype]
            worst = max(worst, value / VALUE_TOLERANCE, gradient / allowed)
            name = str(dtype).removeprefix("torch.")
            said.append(
                f"{device.type} {name}: value off by {value:.1e} (at most {VALUE_TOLERANCE:g}), gradient by "
                f"{gradient:.1e} (at most {allowed:g})"
            )
    found = "; ".join(said)
    if worst <= 1:
        return Finding(found)
    hint = (
        "Training here would learn something else: reinstall torch for this machine; if it stays, report it"
    )
    return Finding(found, "failed", hint)


def _measure(case: Case, device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Largest errors of value and gradient, relative to the largest number of the reference."""
    rounded = [each.to(dtype) for each in case.inputs]
    here = [each.to(device).clone() for each in rounded]  # cases share their inputs
    exact = [each.double() for each in rounded]
    for learned in (here[0], exact[0]):
        learned.requires_grad_()
    ours = case.ours(*here, *(each.to(device) for each in case.fixed))
    reference = case.reference(*exact, *case.fixed)
    # Weights make every number count for itself.
    weights = torch.linspace(0.5, 1.5, reference.numel(), dtype=torch.float64).view(reference.shape)
    (ours.double() * weights.to(device)).sum().backward()
    (reference * weights).sum().backward()
    assert here[0].grad is not None and exact[0].grad is not None
    return _compare(ours.detach(), reference.detach()), _compare(here[0].grad, exact[0].grad)


def _compare(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest number expected; infinite for NaN or another shape."""
    if found.shape != expected.shape or not torch.isfinite(found).all():
        return math.inf
    return float((found.cpu().double() - expected).abs().max() / expected.abs().max())
