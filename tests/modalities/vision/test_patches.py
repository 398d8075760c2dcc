import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polymodal import Reader, Source, UnreadableError
from polymodal_vision.geometry import native_size, plan_crop, resize
from polymodal_vision.patches import Patches
from polymodal_vision.patching import STATISTICS


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 5), np.cos(columns / 7), np.sin((rows + columns) / 9)]
    return ((np.stack(waves, axis=-1) + 1) * 127).astype(np.uint8)


def test_a_patch_is_row_by_row_and_colour_last():
    image = picture(4, 6)
    tokens = Patches(size=(4, 6), patch=2, normalize="none").encode([image])
    assert tokens.layout.positions.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    for token, (row, column) in enumerate(tokens.layout.positions.tolist()):
        square = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        torch.testing.assert_close(
            tokens.values[token], torch.from_numpy(square.reshape(-1) / 255).float()
        )


@pytest.mark.parametrize("name", ["imagenet", "clip", "half", "none"])
def test_values_are_normalised_by_channel_and_decode_undoes_it(name):
    patches = Patches(size=8, patch=4, normalize=name)
    image = picture(8, 8)
    tokens = patches.encode([image])
    mean, std = np.array(STATISTICS[name][0]), np.array(STATISTICS[name][1])
    wanted = ((image / 255 - mean) / std)[4:, :4].reshape(-1)
    np.testing.assert_allclose(tokens.values[2], wanted, atol=1e-5)
    assert (patches.decode(tokens)[0] == image).all()


def test_positions_stretched_to_a_grid_span_it_at_any_size_and_decode_undoes_it():
    small = Patches(size=4, patch=2, grid=(4, 6))
    tokens = small.encode([picture(9, 9), None])
    # Two patches over four places: centres at 0.5 and 2.5, as half the image each.
    assert tokens.layout.positions.tolist() == [[0.5, 1], [0.5, 4], [2.5, 1], [2.5, 4]]
    assert small.spec.extent == (4, 6) and small.spec.max_tokens == 4
    image = picture(4, 4)
    assert (small.decode(small.encode([image]))[0] == image).all()
    same = Patches(size=8, patch=2, grid=4).encode([picture(8, 8)])
    assert torch.equal(
        same.layout.positions, Patches(size=8, patch=2).encode([image]).layout.positions
    )
    with pytest.raises(ValueError, match="give size too"):
        Patches(max_tokens=4, grid=4)


def test_absent_images_and_empty_batches_have_no_tokens():
    patches = Patches(size=8, patch=4)
    tokens = patches.encode([None, picture(9, 20), None])
    assert tokens.layout.lengths == (0, 4, 0)
    assert [image is None for image in patches.decode(tokens)] == [True, False, True]
    for raws in ([], [None]):
        empty = patches.encode(raws)
        assert empty.values.shape == (0, 48)
        assert empty.values.dtype == torch.float32
        assert empty.layout.positions.shape == (0, 2)


def test_the_spec_bounds_what_comes():
    spec = Patches(size=(32, 16), patch=8).spec
    assert (spec.features, spec.axes, spec.extent, spec.max_tokens) == (192, 2, (4, 2), 8)
    assert spec.grid == (4, 2)
    native = Patches(max_tokens=9, patch=8).spec
    assert (native.extent, native.max_tokens, native.grid) == ((9, 9), 9, None)


def test_crop_agrees_with_pillow_resizing_the_shorter_side_and_cutting():
    image = smooth(60, 92)
    box, size = plan_crop(60, 92, (30, 30), mode="crop")
    ours = resize(image[None], box, size)[0]
    pillow = Image.fromarray(image).resize((46, 30), Image.Resampling.BICUBIC).crop((8, 0, 38, 30))
    assert np.abs(ours[2:-2, 2:-2].astype(int) - np.asarray(pillow)[2:-2, 2:-2]).max() <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 5), (64, 80)])
def test_resizing_agrees_with_pillow_within_two_levels(interpolation, size):
    image = picture(31, 23)
    ours = resize(image[None], (0, 0, 31, 23), size, interpolation=interpolation)[0]
    kind = Image.Resampling[interpolation.upper()]
    pillow = np.asarray(Image.fromarray(image).resize(size[::-1], kind))
    difference = np.abs(ours.astype(int) - pillow)
    assert difference.max() <= 2
    assert difference.mean() < 0.2


def test_crop_share_zooms_into_the_middle():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[2:6, 2:6] = 255
    patches = Patches(size=4, patch=4, crop_share=0.5, normalize="none")
    assert (patches.encode([image]).values == 1).all()


def test_pad_keeps_the_ratio_and_fills_the_rest():
    image = np.full((4, 8, 3), 200, dtype=np.uint8)
    patches = Patches(size=8, patch=8, resize="pad", padding=(9, 8, 7), normalize="none")
    shown = patches.decode(patches.encode([image]))[0]
    assert (shown[:2] == (9, 8, 7)).all()
    assert (shown[2:6] == 200).all()
    assert (shown[6:] == (9, 8, 7)).all()


def test_squash_uses_every_pixel_and_crop_does_not():
    image = np.zeros((4, 12, 3), dtype=np.uint8)
    image[:, :4] = 255
    squash = Patches(size=4, patch=4, resize="squash", normalize="none").encode([image])
    crop = Patches(size=4, patch=4, resize="crop", normalize="none").encode([image])
    assert squash.values.max() > 0.9
    assert crop.values.max() == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 64), st.booleans())
def test_native_sizes_stay_within_the_budget_and_near_the_ratio(height, width, budget, enlarge):
    patch = 16
    rows, columns = native_size(height, width, patch=patch, max_tokens=budget, enlarge=enlarge)
    rows, columns = rows // patch, columns // patch
    assert 1 <= rows * columns <= budget
    if not enlarge:
        assert rows <= -(-height // patch)
        assert columns <= -(-width // patch)
    # Some scale rounds up to this grid: the ratio is kept but for whole patches. (Equal where a
    # side is a whole number of patches at that very scale.)
    assert (rows - 1) * width <= columns * height
    assert (columns - 1) * height <= rows * width
    if enlarge:  # a larger scale adds a row, a column or both, and breaks the budget
        more_rows = rows + (rows * width <= columns * height)
        more_columns = columns + (columns * height <= rows * width)
        assert more_rows * more_columns > budget


def test_a_native_image_that_fits_the_budget_is_not_resampled():
    image = picture(24, 40)
    patches = Patches(max_tokens=15, patch=8)
    assert (patches.decode(patches.encode([image]))[0] == image).all()
    assert Patches(max_tokens=60, patch=8, enlarge=True).count([image]) == [60]


def test_images_of_a_batch_are_patched_as_each_alone():
    patches = Patches(max_tokens=12, patch=4)
    images = [picture(9, 30), None, picture(16, 16, 1), picture(1, 1, 2), picture(1, 900, 3)]
    together = patches.encode(images)
    alone = [patches.encode([image]) for image in images]
    assert torch.equal(together.values, torch.cat([each.values for each in alone]))
    assert torch.equal(
        together.layout.positions, torch.cat([each.layout.positions for each in alone])
    )
    assert patches.count(images) == list(together.layout.lengths)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3000, 4000)])
@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
def test_tiny_thin_and_huge_images_fit(shape, mode):
    image = np.full((*shape, 3), 100, dtype=np.uint8)
    patches = Patches(size=16, patch=8, resize=mode, padding=(100, 100, 100))
    assert (patches.decode(patches.encode([image]))[0] == 100).all()


def test_a_dropped_patch_decodes_to_the_mean_colour():
    patches = Patches(size=8, patch=4, normalize="half")
    tokens = patches.encode([picture(8, 8)]).keep(torch.tensor([True, False, True, True]))
    shown = patches.decode(tokens)[0]
    assert (shown[:4, 4:] == 128).all()
    assert (shown[4:] == picture(8, 8)[4:]).all()


AUGMENT = {
    "crop": [0.1, 1.0], "flip": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4,
    "hue": 0.1, "grey": 0.3, "blur": 0.5,
}  # fmt: skip


def test_augmentation_follows_the_generators_and_nothing_else():
    patches = Patches(size=16, patch=8, augment=AUGMENT)
    image = picture(40, 50)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    draws = [
        patches.encode([image, image], generators=[np.random.default_rng(s) for s in seeds])
        for seeds in ((1, 2), (1, 3))
    ]
    first, second = (each.values.reshape(2, -1) for each in draws)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_without_generators_nothing_is_random_and_without_augment_generators_do_nothing():
    image = picture(40, 50)
    plain = Patches(size=16, patch=8).encode([image]).values
    assert torch.equal(Patches(size=16, patch=8, augment=AUGMENT).encode([image]).values, plain)
    drawn = Patches(size=16, patch=8).encode([image], generators=[np.random.default_rng(0)])
    assert torch.equal(drawn.values, plain)


def test_check_refuses_what_encode_could_not_take():
    patches = Patches(size=8, patch=4)
    patches.check(picture(1, 1))
    with pytest.raises(UnreadableError, match="uint8"):
        patches.check("a path")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "either size"),
        ({"size": 8, "max_tokens": 4}, "got both"),
        ({"size": 30, "patch": 8}, "multiple of patch 8, got 30: try 32"),
        ({"size": (8, 0), "patch": 8}, "multiple"),
        ({"size": 8, "patch": 0}, "patch must be"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"size": 16, "crop_share": 0.0}, "crop_share"),
        ({"size": 16, "padding": (0, 0, 999)}, "padding"),
        ({"size": 16, "augment": {"flipp": 0.5}}, "no option 'flipp'. Did you mean 'flip'"),
        ({"size": 16, "augment": {"flip": 2}}, "probability"),
        ({"size": 16, "augment": {"crop": [0.5]}}, "crop"),
        ({"size": 16, "augment": {"crop": [0.5, 0.1]}}, "crop"),
        ({"size": 16, "augment": {"hue": 0.7}}, "hue"),
        ({"size": 16, "augment": {"contrast": -1}}, "negative"),
        ({"size": 16, "augment": {"ratio": [2, 1]}}, "ratio"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        Patches(**options)
    assert "\n" not in str(caught.value)


def test_it_travels_to_a_worker():
    patches = pickle.loads(pickle.dumps(Patches(size=8, patch=4, augment=AUGMENT)))
    assert patches.encode([picture(8, 8)]).layout.lengths == (4,)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("augment", [{}, {"crop": (0.3, 1), "flip": 0.5, "brightness": 0.4}])
def test_shrunk_images_make_the_tokens_of_whole_ones(on_device, augment):
    tokenizer = Patches(size=32, patch=16, augment=augment, on_device=on_device)
    images = [np.random.default_rng(n).integers(0, 256, (40 + n, 32, 3), np.uint8) for n in (0, 9)]
    whole = tokenizer.encode(images, generators=[np.random.default_rng(n) for n in (0, 1)])
    draws = [np.random.default_rng(n) for n in (0, 1)]
    small = [tokenizer.shrink(i, generator=g) for i, g in zip(images, draws, strict=True)]
    for each in small:  # no view of the whole image
        assert each.image.base is None or each.image.base.nbytes == each.image.nbytes
    found = tokenizer.encode(small, generators=draws)
    assert torch.equal(tokenizer.finish(found).values, tokenizer.finish(whole).values)


def test_a_batch_of_photos_takes_the_memory_of_one_beside_its_own():
    import tracemalloc

    from polymodal.data.loader import PackedDataset
    from polymodal.data.reading import StreamReading
    from polymodal.data.sampling import Refs
    from polymodal.data.splits import SplitSource

    side = 1200

    class Photos(Source):
        def __len__(self):
            return 6

        def columns(self):
            return ("image",)

        def row(self, index):
            return {"image": index}

    class Photographer(Reader):
        def __call__(self, value):
            return np.full((side, side, 3), value, dtype=np.uint8)

    reading = StreamReading("image", Patches(size=224), Photographer())
    dataset = PackedDataset([SplitSource("photos", Photos())], {"image": reading})
    index = np.arange(6)
    refs = Refs(0, 6, np.zeros(6, np.int64), index, np.zeros(6, np.int64))
    dataset[refs]  # what is kept for good
    tracemalloc.start()
    batch = dataset[refs]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    made = batch.streams["image"].values.nbytes
    assert peak <= 1.5 * made + 1.1 * side * side * 3  # seven photos would be 30 MB
