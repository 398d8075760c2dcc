"""Position vectors and rotations."""

import math

import pytest
import torch

from polymodal.nn.positions import Positions, Rotary, rotate, sinusoids
from polymodal.packed.layout import Layout


def test_sinusoids_are_those_of_the_paper():
    vectors = sinusoids(torch.tensor([[0], [3]]), 4)
    assert vectors[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(3), math.sin(3 / 100), math.cos(3), math.cos(3 / 100)]
    assert torch.allclose(vectors[1], torch.tensor(expected))


def test_each_axis_has_its_own_share_and_the_rest_is_zero():
    vectors = sinusoids(torch.tensor([[1, 5], [1, 6], [2, 5]]), 10)
    assert torch.equal(vectors[0, :4], vectors[1, :4])  # first axis the same
    assert torch.equal(vectors[0, 4:8], vectors[2, 4:8])  # second axis the same
    assert not torch.equal(vectors[0, 4:8], vectors[1, 4:8])
    assert (vectors[:, 8:] == 0).all()


def test_fractions_lie_between_their_neighbours():
    low, middle, high = sinusoids(torch.tensor([[1.0], [1.5], [2.0]]), 8)
    assert (low - middle).norm() < (low - high).norm()


def test_learned_vectors_of_the_axes_add_up():
    module = Positions(6, 2, kind="learned", extent=(3, 4))
    found = module(torch.tensor([[2, 1], [0, 3]]))
    rows, columns = (6**0.5 * table.weight for table in module.tables)
    assert torch.allclose(found, torch.stack([rows[2] + columns[1], rows[0] + columns[3]]))


@pytest.mark.parametrize("kind", ["sinusoidal", "learned", "none"])
def test_no_tokens_give_no_vectors_and_every_parameter_a_gradient(kind):
    module = Positions(8, 2, kind=kind, extent=(3, 3))
    found = module(torch.zeros(0, 2, dtype=torch.int64))
    assert found.shape == (0, 8)
    if kind != "none":
        found.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.skipif(hasattr(rotate, "__wrapped__"), reason="shape checks refuse first")
def test_what_can_not_work_is_refused():
    with pytest.raises(ValueError, match="use sinusoidal or rotary"):
        Positions(8, 1, kind="learned")
    with pytest.raises(ValueError, match="need 2 extents"):
        Positions(8, 2, kind="learned", extent=(3,))
    with pytest.raises(ValueError, match="whole numbers"):
        Positions(8, 1, kind="learned", extent=(3,))(torch.zeros(1, 1))
    with pytest.raises(ValueError, match="made for 2 axes"):
        Positions(8, 2)(torch.zeros(1, 1))
    with pytest.raises(ValueError, match="at least 8"):
        Positions(6, 4)
    with pytest.raises(ValueError, match="must be 'sinusoidal'"):
        Positions(6, 1, kind="sine")
    with pytest.raises(ValueError, match="even head width"):
        Rotary(6, 4)
    with pytest.raises(ValueError, match="made for 1 axes"):
        Rotary(8, 1)(Layout.of([1], torch.zeros(1, 2)))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_rotated_scores_depend_on_differences_of_positions_alone(axes):
    rotary = Rotary(16, axes).double()
    q, k = torch.randn(2, 5, 1, 16, dtype=torch.float64)
    here, there = torch.randint(0, 9, (2, 5, axes)).double()
    shift = torch.randint(-4, 5, (1, axes)).double()

    def scores(first, second):
        turned = rotate(q, rotary.angles(first)), rotate(k, rotary.angles(second))
        return (turned[0] * turned[1]).sum(dim=-1)

    # angles are worked out in float32
    assert torch.allclose(scores(here, there), scores(here + shift, there + shift), atol=1e-4)
    moved = there.clone()
    moved[:, -1] += 1
    assert not torch.allclose(scores(here, there), scores(here, moved), atol=1e-2)


def test_rotation_keeps_lengths_and_leaves_position_zero_alone():
    rows = torch.randn(3, 2, 8)
    rotary = Rotary(8, 2)
    turned = rotate(rows, rotary.angles(torch.tensor([[0, 0], [4, 1], [0, 7]])))
    assert torch.equal(turned[0], rows[0])
    assert torch.allclose(turned.norm(dim=-1), rows.norm(dim=-1), atol=1e-5)


def test_rotation_is_the_complex_product_of_the_paper():
    rows = torch.randn(1, 1, 4, dtype=torch.float64)
    turned = rotate(rows, Rotary(4, 1).angles(torch.tensor([[3]])))[0, 0]
    pairs = torch.complex(rows[0, 0, :2], rows[0, 0, 2:])
    angle = torch.tensor([3.0, 3 / 100], dtype=torch.float64)
    expected = pairs * torch.polar(torch.ones(2, dtype=torch.float64), angle)
    assert torch.allclose(turned, torch.cat([expected.real, expected.imag]), atol=1e-6)


def test_left_over_pairs_do_not_turn():
    rotary = Rotary(8, 3)  # four pairs for three axes
    cosine, sine = rotary.angles(torch.tensor([[5, 6, 7]]))
    assert cosine[0, 0, 3] == 1
    assert sine[0, 0, 3] == 0
    assert (sine[0, 0, :3] != 0).all()


def test_angles_are_worked_out_once_a_layout():
    layout = Layout.of([3])
    rotary = Rotary(8, 1)
    assert rotary(layout)[0] is rotary(layout)[0]
    assert rotary(layout)[0] is not Rotary(8, 1, base=50.0)(layout)[0]
