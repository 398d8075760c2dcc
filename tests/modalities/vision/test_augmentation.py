import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from polymodal.data.loader import owned
from polymodal_vision.augmentation import (
    Augmentation,
    change_brightness,
    change_contrast,
    change_hue,
    change_saturation,
    flip_and_colour,
    gaussian_blur,
)
from polymodal_vision.geometry import random_box, resize
from polymodal_vision.patches import Patches


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


EVERYTHING = {
    "crop": [0.3, 1.0], "flip": 0.5, "jitter": 0.8, "brightness": 0.6, "contrast": 0.6,
    "saturation": 0.6, "hue": 0.3, "grey": 0.3, "blur": 0.5, "blur_sigma": [0.3, 1.6],
}  # fmt: skip


def pictures(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    shapes = generator.integers(20, 60, (count, 2))
    # smooth: in noise a single rounding of a pixel would spread
    return [
        resize(generator.integers(0, 256, (1, 5, 4, 3), np.uint8), (0, 0, 5, 4), (h, w))[0]
        for h, w in shapes.tolist()
    ]


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(number) for number in range(count)]


@pytest.mark.parametrize(
    "augment", [EVERYTHING, {"flip": 0.5}, {"blur": 1.0}, {"hue": 0.5}, {"contrast": 0.9}, {}]
)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_images_change_on_the_device_as_they_would_in_the_worker(augment, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    options = {"size": (24, 32), "patch": 8, "normalize": "none", "augment": augment}
    here, there = Patches(**options), Patches(**options, on_device=True)
    raws = [*pictures(40), None]
    wanted = here.encode(raws, generators=generators(41))
    cut = there.encode(raws, generators=generators(41))
    assert cut.values.dtype == torch.uint8
    found = there.finish(cut.to(device)).to("cpu")
    assert found.layout.lengths == wanted.layout.lengths and not found.layout.channels
    apart = ((found.values - wanted.values) * 255).round().abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 1e-3  # ties of rounding


@pytest.mark.parametrize("order", ["raster", "spiral"])
@pytest.mark.parametrize("standardize", [False, True])
def test_without_changes_the_device_gives_what_the_worker_gives(order, standardize):
    options = {"size": 24, "patch": 8, "order": order, "standardize": standardize,
               "augment": EVERYTHING}  # fmt: skip
    here, there = Patches(**options), Patches(**options, on_device=True)
    raws = [None, *pictures(3), None]
    wanted, found = here.encode(raws), there.finish(there.encode(raws))
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(found.layout.positions, wanted.layout.positions)
    assert here.finish(wanted) is wanted
    assert there.finish(there.encode([None])).layout.tokens == 0


def test_the_device_keeps_the_owners_of_a_list_of_images():
    there = Patches(size=16, patch=8, augment={"flip": 1.0}, on_device=True)
    cut = owned(there.encode(pictures(3), generators=generators(3)), [0, 0, 2], 3)
    assert there.finish(cut).layout.owners == (0, 0, 2)


@pytest.mark.parametrize("options", [{"max_tokens": 9}, {"size": 16, "resize": "pad"}])
def test_the_device_takes_images_of_one_size_only(options):
    with pytest.raises(ValueError, match="on_device changes images of one size"):
        Patches(patch=8, on_device=True, **options)
