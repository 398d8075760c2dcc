import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss

from polymodal_contrastive import info_nce, losses, siglip_loss, symmetric_info_nce


def rows(count, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator), dim=1)


def leaves(*tensors):
    return [t.clone().requires_grad_() for t in tensors]


def test_info_nce_of_two_orthogonal_pairs_is_known():
    a = torch.eye(2)
    total, correct = info_nce(a, a, scale=5.0)
    assert total.item() == pytest.approx(2 * math.log(1 + math.exp(-5.0)), rel=1e-5)
    assert correct == 2


def test_a_collapse_costs_the_log_of_the_batch_and_is_never_correct():
    a = torch.ones(3, 4) / 2
    total, correct = info_nce(a, a, scale=5.0)
    assert total.item() == pytest.approx(3 * math.log(3), rel=1e-5)
    assert correct == 0


def test_symmetric_info_nce_is_open_clips_loss():
    a, b = rows(7, seed=1), rows(7, seed=2)
    scale = torch.tensor(14.0)
    ours = (info_nce(a, b, scale=scale)[0] + info_nce(b, a, scale=scale)[0]) / 2 / 7
    torch.testing.assert_close(ours, ClipLoss()(a, b, scale))


def test_siglip_is_open_clips_loss():
    a, b = rows(7, seed=1), rows(7, seed=2)
    scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
    ours = siglip_loss(a, b, scale=scale, bias=bias)[0] / 7
    torch.testing.assert_close(ours, SigLipLoss()(a, b, scale, bias))


@pytest.mark.parametrize("tile", [1, 3, 7, 100])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("loss", [info_nce, siglip_loss])
def test_a_tiled_loss_has_the_value_and_gradients_of_the_whole(loss, keyed, tile):
    keys = torch.tensor([1, 2, 1, 3, 3, 4, 5]) if keyed else None
    found = []
    for size in (None, tile):
        a, b, scale, bias = leaves(
            rows(7, seed=1), rows(7, seed=2), torch.tensor([9.0]), torch.tensor([-3.0])
        )
        inputs = [a, b, scale]
        more = {}
        if loss is siglip_loss:
            more = {"bias": bias}
            inputs.append(bias)
        total, correct = loss(
            a, b, scale=scale, anchor_keys=keys, candidate_keys=keys, tile=size, **more
        )
        found.append([total, correct, *torch.autograd.grad(3 * total, inputs)])
    for whole, tiled in zip(*found, strict=True):
        torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("loss", [info_nce, siglip_loss])
def test_anchors_cut_into_ranks_add_up_to_the_whole(loss, tile):
    a, b = rows(5, seed=3), rows(5, seed=4)
    more = {"scale": 8.0} | ({"bias": -2.0} if loss is siglip_loss else {})
    whole, right = loss(a, b, **more)
    cuts = [(0, 2), (2, 2), (2, 5)]
    parts = [loss(a[i:j], b, first=torch.tensor(i), tile=tile, **more) for i, j in cuts]
    torch.testing.assert_close(sum(p[0] for p in parts), whole)
    assert sum(p[1] for p in parts) == right


def test_rows_with_one_key_are_no_negatives_of_each_other():
    a, b = rows(4, seed=5), rows(4, seed=6)
    keys = torch.tensor([1, 1, 2, 3])
    total, _ = info_nce(a, b, scale=4.0, anchor_keys=keys, candidate_keys=keys)
    expected = 0.0
    for i in range(4):
        terms = [
            math.exp(4 * float(a[i].double() @ b[j].double()))
            for j in range(4)
            if i == j or keys[i] != keys[j]
        ]
        expected -= math.log(math.exp(4 * float(a[i].double() @ b[i].double())) / sum(terms))
    assert total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("loss", [info_nce, siglip_loss])
def test_no_rows_cost_nothing_and_still_reach_the_graph(loss, tile):
    a, b = leaves(torch.zeros(0, 3), torch.zeros(0, 3))
    more = {"bias": torch.zeros(1)} if loss is siglip_loss else {}
    total, correct = loss(a, b, scale=torch.ones(1), tile=tile, **more)
    total.backward()
    assert total == 0
    assert correct == 0
    assert a.grad.shape == (0, 3)


def test_half_precision_rows_are_scored_in_float32():
    a, b = rows(4, seed=1).bfloat16(), rows(4, seed=2).bfloat16()
    total, _ = info_nce(a, b, scale=100.0)
    torch.testing.assert_close(total, info_nce(a.float(), b.float(), scale=100.0)[0])


def test_keys_on_one_side_only_are_refused():
    with pytest.raises(ValueError, match="keys"):
        info_nce(torch.eye(2), torch.eye(2), scale=1.0, anchor_keys=torch.arange(2))


@pytest.mark.parametrize("tile", [None, 1, 3])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("scale", [5.0, 30.0, 100.0])
def test_both_directions_at_once_are_the_mean_of_one_and_the_other(scale, keyed, tile):
    keys = torch.tensor([1, 2, 1, 3, 3, 4, 5]) if keyed else None
    options = {"anchor_keys": keys, "candidate_keys": keys}
    found = []
    for once in (False, True):
        inputs = leaves(rows(7, seed=1).double(), rows(7, seed=2).double(), torch.tensor([scale]))
        a, b, s = inputs
        if once:
            total, correct = symmetric_info_nce(a, b, scale=s, tile=tile, **options)
        else:
            there, back = (info_nce(*sides, scale=s, **options) for sides in ((a, b), (b, a)))
            total, correct = (there[0] + back[0]) / 2, (there[1] + back[1]) / 2
        found.append([total, correct, *torch.autograd.grad(3 * total, inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-9, rtol=1e-6)


def opposed(dtype):
    """Rows of which the first is far from every candidate."""
    a, b = rows(5, seed=1).to(dtype), rows(5, seed=2).to(dtype)
    b[1:] = F.normalize(b[1:] - 2 * a[0], dim=1)
    b[0] = -a[0]
    return a, b


def test_a_row_far_from_all_candidates_at_scale_100_has_finite_exact_gradients():
    found = []
    for dtype in (torch.float64, torch.float32):
        a, b = leaves(*opposed(dtype))
        assert (a @ b.T)[0].max() < -0.5  # exp(100 * (-0.5 - 1)) is no float32
        total, _ = symmetric_info_nce(a, b, scale=100.0)
        found.append([total, *torch.autograd.grad(total, [a, b])])
    for exact, single in zip(*found, strict=True):
        torch.testing.assert_close(single.double(), exact, atol=1e-3, rtol=1e-4)
    a, b = opposed(torch.float64)
    torch.testing.assert_close(found[0][0], 5 * ClipLoss()(a, b, torch.tensor(100.0)).double())


def test_a_collapse_is_not_correct_in_either_direction():
    a = F.normalize(torch.ones(3, 5) + 1e-8, dim=1)
    total, correct = symmetric_info_nce(a, a.clone(), scale=5.0)
    assert total.item() == pytest.approx(3 * math.log(3), rel=1e-5)
    assert correct == 0


def test_both_directions_of_no_rows_cost_nothing_and_reach_the_graph():
    a, b = leaves(torch.zeros(0, 3), torch.zeros(0, 3))
    total, correct = symmetric_info_nce(a, b, scale=torch.ones(1))
    total.backward()
    assert (total, correct) == (0, 0)
    assert a.grad.shape == b.grad.shape == (0, 3)


def test_a_large_batch_is_tiled_by_itself(monkeypatch):
    monkeypatch.setattr(losses, "_WHOLE", 42)
    monkeypatch.setattr(losses, "_TILE", 21)
    sizes = [losses.tile_rows(rows, 7, None) for rows in (0, 6, 7)]
    assert sizes == [1, 6, 3]
    assert losses.tile_rows(7, 100, None) == 1
    assert losses.tile_rows(7, 100, 5) == 5
    a, b = leaves(rows(7, seed=1), rows(7, seed=2))
    total, _ = siglip_loss(a, b, scale=9.0, bias=-3.0)
    assert "Tiled" in type(total.grad_fn).__name__
