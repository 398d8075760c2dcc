import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from polymodal_vision.augmentation import (
    Augmentation,
    change_brightness,
    change_contrast,
    change_hue,
    change_saturation,
    flip_and_colour,
    gaussian_blur,
)
from polymodal_vision.geometry import random_box


def colours(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((*shape, 3), dtype=np.float32))


@pytest.mark.parametrize(
    ("ours", "theirs", "factor"),
    [
        (change_brightness, reference.adjust_brightness, 1.3),
        (change_contrast, reference.adjust_contrast, 0.6),
        (change_saturation, reference.adjust_saturation, 1.7),
        (change_hue, reference.adjust_hue, 0.21),
        (change_hue, reference.adjust_hue, -0.4),
    ],
)
def test_colours_change_as_torchvision_changes_them(ours, theirs, factor):
    frames = colours(2, 6, 5)
    wanted = theirs(frames.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)
    # torchvision rounds the weights of grey to four digits
    torch.testing.assert_close(ours(frames, factor).clamp(0, 1), wanted, atol=2e-4, rtol=0)


def test_turning_the_hue_leaves_grey_alone():
    grey = torch.full((1, 2, 2, 3), 0.3)
    torch.testing.assert_close(change_hue(grey, 0.3), grey)
    torch.testing.assert_close(change_hue(grey * 0, 0.3), grey * 0)


def test_blur_agrees_with_torchvision_away_from_the_edge():
    frames = colours(1, 20, 20)
    wanted = reference.gaussian_blur(frames.permute(0, 3, 1, 2), 7, 1.0).permute(0, 2, 3, 1)
    torch.testing.assert_close(gaussian_blur(frames, 1.0)[:, 3:-3, 3:-3], wanted[:, 3:-3, 3:-3])
    assert gaussian_blur(colours(1, 1, 1), 2.0).shape == (1, 1, 1, 3)


def test_all_frames_of_a_clip_change_alike():
    frame = (colours(1, 8, 8) * 255).to(torch.uint8).numpy()
    everything = Augmentation(
        flip=0.5, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3, grey=0.3, blur=0.5
    )
    for seed in range(8):
        changed = flip_and_colour(frame.repeat(3, axis=0), everything, np.random.default_rng(seed))
        assert changed.dtype == np.uint8
        assert (changed == changed[:1]).all()


def test_certain_flips_and_greys_happen():
    frame = (colours(1, 4, 4) * 255).to(torch.uint8).numpy()
    generator = np.random.default_rng(0)
    assert (flip_and_colour(frame, Augmentation(flip=1.0), generator) == frame[:, :, ::-1]).all()
    grey = flip_and_colour(frame, Augmentation(grey=1.0), generator)
    assert (grey == grey[..., :1]).all()
    assert flip_and_colour(frame, Augmentation(), generator) is frame


def test_random_boxes_have_the_area_and_ratio_asked_for():
    generator = np.random.default_rng(0)
    for _ in range(200):
        top, left, height, width = random_box(
            100, 80, generator, scale=(0.2, 0.4), ratio=(0.5, 2.0)
        )
        assert 0 <= top <= 100 - height
        assert 0 <= left <= 80 - width
        assert 0.18 < height * width / 8000 < 0.42
        assert 0.47 < width / height < 2.1


def test_a_box_that_never_fits_becomes_the_middle_of_the_nearest_ratio():
    box = random_box(10, 400, np.random.default_rng(0), scale=(0.9, 1.0), ratio=(0.75, 1.5))
    assert box == (0, 192, 10, 15)
    assert random_box(1, 1, np.random.default_rng(0), scale=(0.01, 0.02), ratio=(1.0, 1.0)) == (
        0, 0, 1, 1,
    )  # fmt: skip
