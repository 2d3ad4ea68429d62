"""What a program hands to a `Detector` as options: a notebook hands over anything."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING

from hkdcli.data.images import ImagePolicy
from hkdcli.errors import UsageError

if TYPE_CHECKING:
    from hkdcli.inferring import InferOptions
    from hkdcli.runtime import DeviceName

_DEVICES = ("auto", "cpu", "cuda")


def check_given(
    options: InferOptions, device: DeviceName, batch_size: int, policy: ImagePolicy | None
) -> None:
    """Refuse what cannot be meant.

    Args:
        options: How to predict.
        device: Where.
        batch_size: How many requests are answered at once.
        policy: What pictures are accepted.

    Raises:
        UsageError: One of them is of another kind, or out of its range.
    """
    for name, value in (
        ("shifts", 1 if options.shifts is None else options.shifts),
        ("batch_size", batch_size),
    ):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise UsageError(f"{name} is {value!r}", hint="Give a whole number, at least 1.")
    least = options.abstain_below
    if least is not None and (isinstance(least, bool) or not isinstance(least, Real) or not 0 <= least <= 1):
        raise UsageError(f"abstain_below is {least!r}", hint="Give a probability between 0 and 1, or None.")
    if device not in _DEVICES:
        raise UsageError(f"device is {device!r}", hint=f"Give one of {', '.join(_DEVICES)}.")
    if policy is not None and not isinstance(policy, ImagePolicy):
        raise UsageError(f"policy is a {type(policy).__name__}", hint="Give a hkdcli.ImagePolicy, or None.")
