"""When memory runs out: a table of what was held."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

GIB = 2**30


def describe_memory(modules: Mapping[str, nn.Module], signals: object) -> str:
    """Tell what the weights of each part take, what training adds to them, and what there is.

    Args:
        modules: what is trained, by name.
        signals: the teachers, where they are modules.

    Returns:
        A line for each part, in GiB.
    """
    rows = {f"weights of the {name}": _weigh(module) for name, module in modules.items()}
    if isinstance(signals, nn.Module) and "signals" not in modules:
        rows["weights of the teachers"] = _weigh(signals)
    trained = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    rows["gradients"] = sum(p.numel() * p.element_size() for p in trained)
    rows["optimizer (two moments)"] = 2 * rows["gradients"]
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        rows |= {"free on the GPU now": free, "GPU in all": total}
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {size / GIB:8.2f} GiB" for name, size in rows.items())


def _weigh(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.parameters())
