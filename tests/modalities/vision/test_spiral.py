import numpy as np
import pytest
import torch

from polymodal_vision.patches import Patches
from polymodal_vision.spiral import spiral


def test_the_walk_is_that_of_the_paper_s_code():
    assert spiral(3, 3) == [4, 3, 6, 7, 8, 5, 2, 1, 0]
    assert spiral(4, 4) == [9, 10, 6, 5, 4, 8, 12, 13, 14, 15, 11, 7, 3, 2, 1, 0]


@pytest.mark.parametrize("rows", range(7))
@pytest.mark.parametrize("columns", range(7))
def test_every_cell_is_met_once_and_each_step_goes_to_a_neighbour(rows, columns):
    walk = spiral(rows, columns)
    assert sorted(walk) == list(range(rows * columns))
    places = np.array([divmod(cell, columns) for cell in walk]).reshape(-1, 2)
    assert (np.abs(np.diff(places, axis=0)).sum(axis=1) == 1).all()


def test_patches_in_spiral_order_are_those_in_raster_order_with_their_places():
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((12, 12), (8, 16))]
    options = {"max_tokens": 16, "patch": 4}
    raster = Patches(**options).encode([images[0], None, images[1]])
    tokenizer = Patches(**options, order="spiral")
    turned = tokenizer.encode([images[0], None, images[1]])
    assert turned.layout.lengths == raster.layout.lengths == (9, 0, 8)
    rows = torch.tensor([*spiral(3, 3), *(9 + cell for cell in spiral(2, 4))])
    assert torch.equal(turned.values, raster.values[rows])
    assert torch.equal(turned.layout.positions, raster.layout.positions[rows])
    for image, decoded in zip(images, tokenizer.decode(turned)[::2], strict=True):
        assert (image == decoded).all()


def test_a_standardised_patch_keeps_its_pattern_alone():
    generator = np.random.default_rng(1)
    image = generator.integers(0, 128, (8, 8, 3), dtype=np.uint8)
    tokenizer = Patches(size=8, patch=4, standardize=True)
    values = tokenizer.encode([image]).values
    torch.testing.assert_close(values.mean(dim=1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.std(dim=1), torch.ones(4))
    torch.testing.assert_close(tokenizer.encode([image * 2]).values, values)


@pytest.mark.parametrize("level", [0, 13, 77, 255])
def test_a_flat_patch_becomes_zeros(level):
    flat = np.full((6, 6, 3), level, dtype=np.uint8)
    assert Patches(size=6, patch=6, standardize=True).encode([flat]).values.abs().max() < 1e-5
