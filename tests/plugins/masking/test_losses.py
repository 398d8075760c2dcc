import pytest
import torch

from polymodal_masking import scaled_cosine_error
from polymodal_targets import normalized, patch_error, patch_loss, token_loss


def test_normalised_targets_use_the_unbiased_deviation():
    rows = normalized(torch.tensor([[0.0, 1, 2, 3], [4, 4, 4, 8]]))
    assert rows[0].tolist() == pytest.approx([-1.1619, -0.3873, 0.3873, 1.1619], abs=1e-4)
    assert patch_error(torch.zeros(1, 4), rows[:1]).item() == pytest.approx(0.75, abs=1e-4)
    assert patch_error(torch.zeros(1, 4), torch.tensor([[0.0, 1, 2, 3]])).item() == 3.5


def test_a_flat_patch_becomes_zeros():
    assert normalized(torch.full((1, 4), 7.0)).abs().sum() == 0
    assert normalized(torch.full((1, 1), 7.0)).abs().sum() == 0


def test_a_zero_prediction_of_768_values_costs_little_less_than_one():
    target = normalized(torch.randn(1, 768, generator=torch.Generator().manual_seed(0)))
    assert patch_error(torch.zeros(1, 768), target).item() == pytest.approx(0.9987, abs=1e-4)


@pytest.mark.parametrize(("alpha", "mean"), [(1.0, 0.52), (2.0, 0.5008), (3.0, 0.500032)])
def test_scaled_cosine_error_of_known_rows(alpha, mean):
    x, y = torch.tensor([[3.0, 4], [1, 0]]), torch.tensor([[4.0, 3], [0, 1]])
    assert scaled_cosine_error(x, y, alpha=alpha).mean().item() == pytest.approx(mean, abs=1e-6)


def test_scaled_cosine_error_of_zero_and_equal_rows_is_finite():
    x = torch.tensor([[0.0, 0], [3, 4]], requires_grad=True)
    each = scaled_cosine_error(x, torch.tensor([[1.0, 2], [3, 4]]), alpha=1.5)
    each.sum().backward()
    assert each.tolist() == pytest.approx([1, 0], abs=1e-6)
    assert torch.isfinite(x.grad).all()


def test_distances_are_means_over_features():
    a, b = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5, 0.0]])
    assert patch_loss(a, b, "l1").item() == 1.75
    assert patch_loss(a, b, "mse").item() == pytest.approx((0.25 + 9) / 2)
    assert patch_loss(a, b, "smooth_l1").item() == pytest.approx((0.125 + 2.5) / 2)


def test_rows_that_do_not_count_add_nothing_not_even_infinity():
    logits = torch.tensor([[0.0, -torch.inf], [2.0, 0.0]], requires_grad=True)
    total, correct = token_loss(logits, torch.tensor([1, 0]), torch.tensor([False, True]))
    assert total.item() == pytest.approx(0.126928)
    assert correct == 1


def test_nothing_hidden_costs_nothing_and_still_reaches_the_graph():
    predicted = torch.zeros(0, 2, requires_grad=True)
    patch_error(predicted, torch.zeros(0, 2)).backward()
    token_loss(predicted, torch.zeros(0, dtype=torch.int64))[0].backward()
    assert predicted.grad is not None
