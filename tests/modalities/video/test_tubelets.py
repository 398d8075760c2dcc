import pickle

import numpy as np
import pytest
import torch

from polymodal import UnreadableError
from polymodal_video.clip import Clip, Film
from polymodal_video.sampling import frame_indices
from polymodal_video.tubelets import Tubelets


def clip(frames: int, height: int = 8, width: int = 8, seed: int = 0) -> Clip:
    pixels = np.random.default_rng(seed).integers(
        0, 256, (frames, height, width, 3), dtype=np.uint8
    )
    return Clip(pixels, np.arange(frames) / 10)


def test_uniform_takes_the_middle_of_equal_stretches():
    assert frame_indices(8, 4, sampling="uniform").tolist() == [1, 3, 5, 7]
    assert frame_indices(9, 3, sampling="uniform").tolist() == [1, 4, 7]
    assert frame_indices(3, 8, sampling="uniform").tolist() == [0, 1, 2]
    assert frame_indices(10, 1, sampling="uniform").tolist() == [5]


def test_random_takes_one_of_each_stretch_and_the_middle_without_a_generator():
    drawn = np.stack(
        [
            frame_indices(12, 4, sampling="random", generator=np.random.default_rng(seed))
            for seed in range(200)
        ]
    )
    for stretch in range(4):
        assert set(drawn[:, stretch]) == set(range(3 * stretch, 3 * stretch + 3))
    assert frame_indices(12, 4, sampling="random").tolist() == [1, 4, 7, 10]


def test_dense_takes_frames_a_stride_apart_inside_the_clip():
    assert frame_indices(20, 4, sampling="dense", stride=2).tolist() == [7, 9, 11, 13]
    starts = set()
    for seed in range(200):
        chosen = frame_indices(
            10, 3, sampling="dense", stride=2, generator=np.random.default_rng(seed)
        )
        assert np.diff(chosen).tolist() == [2, 2]
        starts.add(int(chosen[0]))
    assert starts == set(range(6))
    assert frame_indices(5, 4, sampling="dense", stride=2).tolist() == [0, 2, 4]
    assert frame_indices(1, 4, sampling="dense", stride=3).tolist() == [0]


def test_a_tubelet_is_frame_by_frame_row_by_row_and_colour_last():
    raw = clip(4, 4, 6)
    tokens = Tubelets(size=(4, 6), frames=4, tube=2, patch=2, normalize="none").encode([raw])
    assert tokens.layout.lengths == (12,)
    assert tokens.layout.positions[:7].tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2], [1, 0, 0],
    ]  # fmt: skip
    for token, (time, row, column) in enumerate(tokens.layout.positions.tolist()):
        block = raw.frames[
            2 * time : 2 * time + 2, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2
        ]
        wanted = torch.from_numpy(block.reshape(-1) / 255).float()
        torch.testing.assert_close(tokens.values[token], wanted)


def test_decode_gives_the_frames_back():
    tubelets = Tubelets(size=8, frames=4, tube=2, patch=4)
    raws = [clip(4), None, clip(4, seed=1)]
    decoded = tubelets.decode(tubelets.encode(raws))
    assert decoded[1] is None
    assert (decoded[0].frames == raws[0].frames).all()
    assert (decoded[2].frames == raws[2].frames).all()


def test_a_short_clip_gives_fewer_tubelets_and_repeats_its_last_frame_to_fill_one():
    tubelets = Tubelets(size=8, frames=8, tube=2, patch=4)
    raws = [clip(3), clip(8), clip(1), None]
    tokens = tubelets.encode(raws)
    assert tokens.layout.lengths == (8, 16, 4, 0)
    assert tubelets.count(raws) == [8, 16, 4, 0]
    shown = tubelets.decode(tokens)
    assert (shown[0].frames == raws[0].frames[[0, 1, 2, 2]]).all()
    assert (shown[2].frames == raws[2].frames[[0, 0]]).all()


def test_clips_of_a_batch_are_cut_as_each_alone():
    tubelets = Tubelets(size=8, frames=4, tube=2, patch=4)
    raws = [clip(3, 9, 20), clip(30, 16, 8), clip(1, 1, 1)]
    together = tubelets.encode(raws)
    alone = [tubelets.encode([raw]) for raw in raws]
    assert torch.equal(together.values, torch.cat([each.values for each in alone]))
    positions = torch.cat([each.layout.positions for each in alone])
    assert torch.equal(together.layout.positions, positions)


def test_absent_clips_and_empty_batches_have_no_tokens():
    for raws in ([], [None, None]):
        tokens = Tubelets(size=8, frames=4, patch=4).encode(raws)
        assert tokens.values.shape == (0, 96)
        assert tokens.layout.positions.shape == (0, 3)


def test_the_spec_bounds_what_comes():
    spec = Tubelets(size=(32, 16), frames=8, tube=4, patch=8).spec
    assert (spec.features, spec.axes, spec.extent) == (4 * 64 * 3, 3, (2, 4, 2))
    assert (spec.max_tokens, spec.tube, spec.patch) == (16, 4, (8, 8))


def test_augmentation_is_alike_for_all_frames_and_follows_the_generator():
    still = Clip(clip(1, 20, 20).frames.repeat(4, axis=0), np.arange(4.0))
    tubelets = Tubelets(
        size=8, frames=4, tube=1, patch=8,
        augment={"crop": [0.3, 0.8], "flip": 0.5, "brightness": 0.5, "hue": 0.2, "blur": 0.5},
    )  # fmt: skip
    for seed in range(5):
        first, again = (
            tubelets.encode([still], generators=[np.random.default_rng(seed)]).values
            for _ in range(2)
        )
        assert torch.equal(first, again)
        assert (first == first[:1]).all()
    plain = tubelets.encode([still]).values
    assert not torch.equal(plain, first)
    assert torch.equal(plain, tubelets.encode([still]).values)


def test_check_wants_a_clip_with_frames():
    tubelets = Tubelets(size=8, frames=4, patch=4)
    tubelets.check(clip(1))
    with pytest.raises(UnreadableError, match="Clip"):
        tubelets.check(clip(1).frames)
    with pytest.raises(UnreadableError, match="uint8"):
        tubelets.check(clip(0))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": 20, "patch": 8}, "multiple of patch 8"),
        ({"size": 16, "frames": 5, "tube": 2}, "multiple of tube"),
        ({"size": 16, "stride": 0}, "stride"),
        ({"size": 16, "augment": {"flips": 1}}, "no option 'flips'"),
    ],
)
def test_bad_options_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        Tubelets(**options)


def test_it_travels_to_a_worker():
    tubelets = pickle.loads(pickle.dumps(Tubelets(size=8, frames=4, patch=4, augment={"flip": 1})))
    assert tubelets.encode([clip(4)]).layout.lengths == (8,)


def test_a_film_is_decoded_no_further_than_its_tubelets_need():
    asked = []

    def decode(indices):
        for index in indices:
            asked.append(int(index))
            yield np.full((40, 32, 3), index, np.uint8)

    film = Film(np.arange(20) / 10, decode)
    frames = np.stack([np.full((40, 32, 3), n, np.uint8) for n in range(20)])
    clip = Clip(frames, np.arange(20) / 10)
    augment = {"crop": (0.3, 1.0), "flip": 0.5, "brightness": 0.4}
    tokenizer = Tubelets(size=32, frames=4, sampling="random", augment=augment)
    tokenizer.check(film)
    assert tokenizer.count([film]) == tokenizer.count([clip])
    assert asked == []
    for seed in (None, 1, 2):
        draws = None if seed is None else [np.random.default_rng(seed)]
        whole = tokenizer.encode([clip], generators=draws)
        draw = None if seed is None else np.random.default_rng(seed)
        small = tokenizer.shrink(film, generator=draw)
        assert len(asked) == 4
        asked.clear()
        again = None if draw is None else [draw]
        assert torch.equal(tokenizer.encode([small], generators=again).values, whole.values)
