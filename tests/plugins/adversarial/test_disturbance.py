"""The direction in which predictions change most, against numbers worked out by hand."""

import math

import torch

from polymodal_adversarial import divergence, symmetric_divergence, worst_direction

P, Q = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])


def found(change, noise, **options):
    return worst_direction(change, noise, **{"start": 1e-3, "rate": None, **options})


def test_the_divergence_of_two_predictions_is_the_one_on_paper():
    assert round(float(divergence(Q, P)), 6) == 0.433781
    assert round(float(divergence(P, Q)), 6) == 0.327813
    assert round(float(symmetric_divergence(P, Q)), 6) == 0.761594


def test_the_divergence_both_ways_is_no_less_than_zero_and_zero_for_equal_scores():
    one, other = torch.randn(2, 50, 7, generator=torch.Generator().manual_seed(0))
    assert (symmetric_divergence(one, other) > 0).all()
    torch.testing.assert_close(symmetric_divergence(one, one + 3), torch.zeros(50))
    assert symmetric_divergence(one[:0], other[:0]).shape == (0,)


def test_each_way_pulls_on_the_side_that_is_not_wanted():
    one, other = P.clone().requires_grad_(), Q.clone().requires_grad_()
    symmetric_divergence(one, other).sum().backward()
    # d KL(a || softmax(z)) / dz = softmax(z) - a.
    shares = P.softmax(dim=1) - Q.softmax(dim=1)
    torch.testing.assert_close(one.grad, shares)
    torch.testing.assert_close(other.grad, -shares)


def test_a_direction_has_length_one_and_that_of_3_4_is_0_6_0_8():
    slope = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    direction = found(lambda d: (d * slope).sum(), torch.randn(2, 2))
    torch.testing.assert_close(direction, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    mixed = found(lambda d: (d * slope).sum(), torch.randn(2, 2), rate=1e-3, updates=3)
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones(2))


def test_noise_and_gradient_are_mixed_by_start_and_rate():
    noise, slope = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 4.0]])
    mixed = 0.5 * noise + 0.1 * slope
    direction = found(lambda d: (d * slope).sum(), noise, start=0.5, rate=0.1)
    torch.testing.assert_close(direction, mixed / mixed.norm())


def test_what_does_not_change_has_no_direction_and_a_broken_gradient_leaves_the_noise():
    noise = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    assert not found(lambda d: (0 * d).sum(), noise).any()
    with_root = found(lambda d: (d - 1e-3 * noise)[0].sum().sqrt() + d[1, 1], noise)
    torch.testing.assert_close(with_root, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


def test_updates_find_the_direction_of_greatest_curvature():
    # KL near a prediction is a quadratic form: Miyato's power iteration finds its first vector.
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    form = turn @ torch.diag(torch.tensor([5.0, 1.0, 0.5, 0.1])) @ turn.T
    noise = torch.randn(1, 4, generator=torch.Generator().manual_seed(2))
    direction = found(lambda d: (d @ form * d).sum(), noise, updates=12)
    assert math.isclose(abs(float(direction[0] @ turn[:, 0])), 1, abs_tol=1e-5)
    assert not direction.requires_grad
