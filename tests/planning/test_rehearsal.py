"""Laws of the rehearsal: what it counts is what tensors take, and what decides a shape stays real."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hkdcli.planning.rehearsal import META, Ledger, rehearse


def test_a_storage_is_counted_once_while_it_is_held():
    ledger = Ledger()
    with rehearse(ledger):
        one = torch.empty(1000, device=META)
        view = one.view(10, 100)[2:]
        assert ledger.held == 4000
        del one
        assert ledger.held == 4000
        del view
        assert ledger.held == 0
        assert ledger.peak == 4000


def test_the_peak_of_a_small_graph_is_what_one_counts_by_hand():
    """x [8, 16] -> h [8, 32] -> relu -> y [8, 4]: forward keeps x, h (relu's input goes), the result."""
    ledger = Ledger()
    with META:
        first, second = nn.Linear(16, 32, bias=False), nn.Linear(32, 4, bias=False)
    weights = 4 * (16 * 32 + 32 * 4)
    with rehearse(ledger):
        for layer in (first, second):
            ledger.enter(layer.weight)
        assert ledger.held == weights
        x = torch.empty(8, 16, device=META)
        hidden = torch.relu(first(x))
        assert ledger.held == weights + 4 * (8 * 16 + 8 * 32)
        assert ledger.peak == weights + 4 * (8 * 16 + 2 * 8 * 32)
        second(hidden).sum().backward()
        del hidden
    assert ledger.held == weights + 4 * 8 * 16 + weights  # x, and a gradient for each weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_repeated_is_counted_as_what_is_computed_first(dtype):
    """An operation seen before is not run again: its result must be as large, of the same type and shape."""
    ledger, seen = Ledger(), []
    with rehearse(ledger):
        x = torch.empty(6, 5, dtype=dtype, device=META)
        for _ in range(2):
            before = ledger.held
            made = [F.silu(x), x.t() @ x, x.sum(-1), torch.topk(x, 2)[1], x.to(torch.float16)]
            seen.append([(each.shape, each.stride(), each.dtype) for each in made] + [ledger.held - before])
            del made
    assert seen[0] == seen[1]


def test_whole_numbers_stay_real_and_decide_shapes():
    with rehearse(Ledger()):
        ids = torch.tensor([[3, 7, 7, 5]])
        states = torch.empty(1, 4, 8, device=META)
        assert ids.to(states.device).tolist() == [[3, 7, 7, 5]]
        assert torch.arange(3, device=META).tolist() == [0, 1, 2]
        assert states[ids == 7].shape == (2, 8)
        mask = (ids == 7).unsqueeze(-1).expand_as(states)
        assert states.masked_scatter(mask, torch.empty(2, 8, device=META)).shape == states.shape


def test_numbers_that_nobody_knows_are_finite_and_equal_to_none():
    with rehearse(Ledger()):
        x = torch.empty(3, 4, device=META)
        assert bool(torch.isfinite(x).all())
        assert not bool(torch.isnan(x).any())
        assert not bool((x == 0).any())


def test_autocast_computes_low_and_casts_a_trained_weight_once():
    """The third matrix product of a weight makes no third copy of it; after the pass the copies go."""
    weight, ledger = nn.Parameter(torch.empty(64, 64, device=META)), Ledger()
    with rehearse(ledger):
        x = torch.empty(1, 64, dtype=torch.bfloat16, device=META)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            said = [F.linear(x, weight) for _ in range(3)]
            assert {each.dtype for each in said} == {torch.bfloat16}
            assert ledger.held == 2 * 64 * 64 + 4 * 2 * 64
        assert ledger.held == 4 * 2 * 64


def test_attention_holds_no_matrix_of_weights():
    """For 512 tokens and 4 heads the weights alone would be 4 MiB; what is held is as large as the inputs."""
    ledger = Ledger()
    with rehearse(ledger):
        query = torch.empty(1, 4, 512, 16, device=META, requires_grad=True)
        F.scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()
    assert ledger.peak < 6 * 4 * 512 * 16 * 4


def test_outside_everything_is_as_before():
    before = F.linear, F.scaled_dot_product_attention, torch.matmul
    with pytest.raises(ZeroDivisionError), rehearse(Ledger()):
        raise ZeroDivisionError
    assert before == (F.linear, F.scaled_dot_product_attention, torch.matmul)
