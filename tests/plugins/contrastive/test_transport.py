import warnings

import numpy as np
import pytest
import torch

from polymodal import Encoded, Layout
from polymodal_contrastive import alignment, optimal_transport
from polymodal_contrastive.transport import aligned

TWO = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
THREE = torch.tensor([[[0.2, 0.8, 0.5], [0.6, 0.1, 0.9]]], dtype=torch.float64)


def moved(cost, **options):
    return (cost * optimal_transport(cost, **options)).sum().item()


def encoded(lengths, *, seed=0, width=5):
    vectors = torch.randn(
        sum(lengths), width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return Encoded.mean_pooled(Layout.of(lengths), vectors)


def test_the_first_steps_are_those_worked_out_by_hand():
    plan = optimal_transport(TWO, iterations=1)
    wanted = torch.tensor([[[0.440399, 0.059601], [0.059601, 0.440399]]], dtype=torch.float64)
    torch.testing.assert_close(plan, wanted, atol=1e-6, rtol=0)
    assert moved(TWO, iterations=1) == pytest.approx(0.119203, abs=1e-6)
    assert moved(TWO, iterations=2) == pytest.approx(0.017986, abs=1e-6)
    assert moved(TWO) < 1e-12
    assert moved(THREE, iterations=1) == pytest.approx(0.394900, abs=1e-6)
    assert moved(THREE) == pytest.approx(1 / 3, abs=1e-6)


def test_mass_is_uniform_on_both_sides():
    plan = optimal_transport(THREE)
    torch.testing.assert_close(plan.sum(dim=2), torch.full((1, 2), 0.5, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(dim=1), torch.full((1, 3), 1 / 3, dtype=torch.float64))


def test_the_distance_tends_to_the_exact_optimum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an escape in its docstrings, when first compiled
        ot = pytest.importorskip("ot")
    generator = np.random.default_rng(0)
    for rows, columns in ((3, 3), (2, 5), (6, 4)):
        cost = generator.uniform(0, 2, (rows, columns))
        exact = ot.emd2(np.full(rows, 1 / rows), np.full(columns, 1 / columns), cost)
        block = torch.from_numpy(cost)[None]
        assert moved(block, iterations=2000) == pytest.approx(exact, abs=1e-5)
        assert moved(block, iterations=400, inner=5) == pytest.approx(exact, abs=1e-3)


def test_a_constant_cost_is_the_distance():
    assert moved(torch.full((1, 3, 4), 0.7, dtype=torch.float64)) == pytest.approx(0.7)


def test_permuted_columns_permute_the_plan():
    order = [2, 0, 1]
    found = optimal_transport(THREE[:, :, order], iterations=7)
    torch.testing.assert_close(found, optimal_transport(THREE, iterations=7)[:, :, order])


def test_padding_changes_nothing_and_stays_empty():
    cost = torch.rand(3, 4, 5, dtype=torch.float64)
    cost[0, :2, :3] = THREE[0]
    rows, columns = torch.tensor([2, 0, 4]), torch.tensor([3, 2, 0])
    plan = optimal_transport(cost, rows, columns)
    torch.testing.assert_close(plan[:1, :2, :3], optimal_transport(THREE), atol=1e-9, rtol=0)
    plan[0, :2, :3] = 0
    assert not plan.any()  # nor has a pair without rows or without columns any mass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opposite_tokens_do_not_underflow(dtype):
    cost = torch.tensor([[[0.0, 2.0], [2.0, 2.0]]], dtype=dtype)
    plan = optimal_transport(cost, iterations=200)
    assert plan.dtype == torch.float32
    torch.testing.assert_close(plan.sum(dim=2), torch.full((1, 2), 0.5))


def test_bad_numbers_are_refused():
    for options in ({"beta": 0.0}, {"iterations": 0}, {"inner": 0}):
        with pytest.raises(ValueError, match="above 0"):
            optimal_transport(TWO, **options)


def test_the_gradient_flows_through_the_cost_alone():
    first, second = encoded([2, 3]), encoded([3, 1], seed=1)
    first.vectors.requires_grad_()
    distance, plan = alignment(first, second)
    assert not plan.requires_grad
    (found,) = torch.autograd.grad(distance.sum(), first.vectors)
    total = 0
    for s, (rows, columns) in enumerate(((slice(0, 2), slice(0, 3)), (slice(2, 5), slice(3, 4)))):
        one, other = first.vectors[rows], second.vectors[columns]
        cost = 1 - torch.cosine_similarity(one[:, None], other[None], dim=2)
        part = plan[s, : len(one), : len(other)]
        total = total + (cost * part).sum()
        assert distance[s].item() == pytest.approx((cost * part).sum().item())
    (wanted,) = torch.autograd.grad(total, first.vectors)
    torch.testing.assert_close(found, wanted)


def test_a_pair_is_aligned_alike_in_any_company():
    first, second = encoded([2, 0, 3]), encoded([3, 1, 4], seed=1)
    together = alignment(first, second)[0]
    for pair in range(3):
        alone = alignment(first.select([pair]), second.select([pair]))[0]
        torch.testing.assert_close(alone[0], together[pair], atol=1e-9, rtol=0)
    assert together[1] == 0  # no words, no distance


@pytest.mark.parametrize("lengths", [([], []), ([0], [0]), ([0, 2], [1, 0])])
def test_nothing_to_align_has_a_finite_gradient(lengths):
    first, second = encoded(lengths[0]), encoded(lengths[1], seed=1)
    first.vectors.requires_grad_()
    alignment(first, second)[0].sum().backward()
    assert torch.isfinite(first.vectors.grad).all()


def test_a_word_is_aligned_where_its_strongest_partner_is_right():
    layout = Layout.of(
        [4, 3],
        kinds=torch.tensor([1, 0, 0, 1, 1, 0, 1]),  # begin, words, end
        channels={"word": torch.tensor([0, 1, 2, 3, 0, 1, 2])},
    )
    plan = torch.zeros(2, 4, 3)
    plan[0, 1, 2] = plan[0, 2, 0] = plan[1, 1, 1] = 1
    partners = [[[0, 2], [1]], [[]]]
    right, asked = aligned(plan, layout, partners)
    assert (right, asked) == (1, 2)  # the second sample's word has no partner to find
    assert aligned(plan, layout, [None, [[1]]]) == (1, 1)
    assert aligned(plan[:, :0, :0], Layout.empty(2), [None, None])[1] == 0
