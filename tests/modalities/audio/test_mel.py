import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from polymodal import UnreadableError

pytest.importorskip("librosa")
import librosa

from polymodal_audio.mel import MelPatches
from polymodal_audio.sound import Recording, Waveform
from polymodal_audio.spectrogram import decibels, mel_power

SMALL = {"rate": 8000, "n_fft": 256, "hop": 80, "n_mels": 32, "patch": (8, 16), "seconds": 2.0}


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def sound(samples, seed=0, rate=8000):
    return Waveform(noise(samples, seed), rate)


def image(tokens, tokenizer):
    """Put the patches of one sound back together: [mel, frame], in dB."""
    time, mel = tokenizer.patch
    patches = tokens.values.reshape(-1, tokenizer.bands, time, mel)
    level = patches.permute(1, 3, 0, 2).reshape(tokenizer.n_mels, -1)
    return (level * tokenizer.std + tokenizer.mean).numpy()


@pytest.mark.slow  # librosa compiles on first use
@pytest.mark.parametrize("n_fft", [256, 255, 400])
def test_the_mel_power_is_librosas(n_fft):
    samples = noise(3000).astype(np.float64)
    wanted = librosa.feature.melspectrogram(
        y=samples, sr=8000, n_fft=n_fft, hop_length=80, n_mels=32, fmin=50, fmax=3500,
        dtype="float64",
    )  # fmt: skip
    padded = np.pad(samples, n_fft // 2)
    first = torch.arange(wanted.shape[1]) * 80
    options = {"rate": 8000, "n_fft": n_fft, "n_mels": 32, "f_min": 50.0, "f_max": 3500.0}
    found = mel_power(torch.from_numpy(padded), first, **options).T.numpy()
    assert np.abs(found / wanted - 1).max() < 1e-6
    single = mel_power(torch.from_numpy(padded).float(), first, **options).T.numpy()
    assert (np.abs(single - wanted) / wanted.max(axis=0)).max() < 1e-6


def test_the_patches_hold_librosas_decibels_of_the_sound_followed_by_silence():
    tokenizer = MelPatches(**SMALL)
    raw = sound(3000)
    tokens = tokenizer.encode([raw])
    assert tokens.layout.lengths == (5 * 2,)  # ceil(3000 / 640) columns of two patches
    silence = np.pad(raw.samples, (0, 5 * 640 - 3000 + 256)).astype(np.float64)
    power = librosa.feature.melspectrogram(
        y=silence, sr=8000, n_fft=256, hop_length=80, n_mels=32, dtype="float64"
    )[:, :40]
    wanted = librosa.power_to_db(power, top_db=80.0)
    assert np.abs(image(tokens, tokenizer) - wanted).max() < 1e-3
    plain = MelPatches(**SMALL, top_db=None)
    wanted = librosa.power_to_db(power, top_db=None)
    loud = wanted > wanted.max(axis=0) - 60  # float32 says less about what is far below the peak
    found = image(plain.encode([raw]), plain)
    assert np.abs(found - wanted)[loud].max() < 1e-3
    assert decibels(torch.zeros(1)).item() == pytest.approx(-100)


def test_tokens_run_through_the_bands_of_each_stretch_of_time():
    tokens = MelPatches(**SMALL).encode([sound(700)])
    assert tokens.layout.positions.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert tokens.values.shape == (4, 8 * 16)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_batch_of_different_lengths_gives_what_each_sound_gives_alone(on_device):
    tokenizer = MelPatches(**SMALL, on_device=on_device)
    raws = [sound(3000), None, sound(1, 1), sound(640, 2), sound(20_000, 3), sound(641, 4)]
    tokens = tokenizer.finish(tokenizer.encode(raws))
    assert list(tokens.layout.lengths) == tokenizer.count(raws) == [10, 0, 2, 2, 50, 4]
    assert tokens.layout.samples == len(raws)
    tokens.layout.validate()
    parts = tokens.values.split(list(tokens.layout.lengths))
    for raw, part in zip(raws, parts, strict=True):
        alone = tokenizer.finish(tokenizer.encode([raw]))
        assert torch.allclose(part, alone.values, atol=1e-5, rtol=1e-6)


def test_changing_one_sound_changes_no_other():
    tokenizer = MelPatches(**SMALL)
    first = tokenizer.encode([sound(3000), sound(900, 1)])
    second = tokenizer.encode([Waveform(noise(3000, 7) * 9, 8000), sound(900, 1)])
    assert torch.equal(first.values[10:], second.values[10:])
    assert not torch.allclose(first.values[:10], second.values[:10])


def test_the_spectrogram_is_the_same_computed_in_finish():
    raws = [sound(3000), sound(100, 1), None]
    here, there = MelPatches(**SMALL), MelPatches(**SMALL, on_device=True)
    cut = there.encode(raws)
    assert cut.values.shape == (6, 640)
    assert cut.layout.lengths == (5, 1, 0)
    finished, whole = there.finish(cut), here.encode(raws)
    assert torch.equal(finished.values, whole.values)
    assert torch.equal(finished.layout.positions, whole.layout.positions)
    assert here.spec == there.spec
    assert here.finish(whole) is whole


def test_the_spec_bounds_what_comes():
    tokenizer = MelPatches(**SMALL)
    spec = tokenizer.spec
    assert (spec.features, spec.axes, spec.extent, spec.max_tokens) == (128, 2, (25, 2), 50)
    tokens = tokenizer.encode([sound(100_000)])
    assert tokens.layout.lengths == (50,)
    assert tokens.layout.positions.amax(0).tolist() == [24, 1]
    assert MelPatches(**{**SMALL, "seconds": None}).spec.extent is None


def test_silence_is_level_and_finite():
    tokens = MelPatches(**SMALL).encode([Waveform(np.zeros(700, np.float32), 8000)])
    assert torch.allclose(tokens.values, torch.tensor((-100 + 30) / 20))


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("raws", [[], [None], [None, None]])
def test_nothing_at_all_makes_no_tokens(raws, on_device):
    tokenizer = MelPatches(**SMALL, on_device=on_device, time_masks=1, time_width=4,
                           frequency_masks=1, frequency_width=4)  # fmt: skip
    generators = [np.random.default_rng(0) for _ in raws]
    for drawn in (None, generators):
        tokens = tokenizer.finish(tokenizer.encode(raws, generators=drawn))
        assert tokens.layout.samples == len(raws)
        assert tokens.values.shape == (0, 128)
        assert tokens.layout.positions.shape == (0, 2)


@pytest.mark.parametrize("on_device", [False, True])
def test_masks_hide_whole_frames_and_bands_and_only_when_training(on_device):
    options = {"time_masks": 1, "time_width": 6, "frequency_masks": 1, "frequency_width": 5}
    tokenizer = MelPatches(**SMALL, **options, on_device=on_device)
    plain = MelPatches(**SMALL)
    raws = [sound(3000), sound(500, 1), sound(1, 2)]
    off = tokenizer.finish(tokenizer.encode(raws))
    assert torch.equal(off.values, plain.encode(raws).values)
    generators = [np.random.default_rng(seed) for seed in (1, 2, 3)]
    on = tokenizer.finish(tokenizer.encode(raws, generators=generators))
    assert not on.layout.channels
    for before, after in zip(
        off.values.split([10, 2, 2]), on.values.split([10, 2, 2]), strict=True
    ):
        hidden = (after == 0) & (before != 0)
        assert torch.equal(after[~hidden], before[~hidden])
        grid = hidden.reshape(-1, 2, 8, 16).permute(0, 2, 1, 3).reshape(-1, 32)  # frame mel
        frames, bands = grid.all(dim=1), grid.all(dim=0)
        assert torch.equal(grid, frames[:, None] | bands)
        assert frames.sum() <= 6
        assert bands.sum() <= 5
    assert (on.values == 0).any()


def test_masks_stay_within_the_sound_and_not_in_the_silence_after_it():
    tokenizer = MelPatches(**SMALL, time_masks=2, time_width=99)
    raw = sound(240)  # three frames of a stretch of eight
    for seed in range(20):
        tokens = tokenizer.encode([raw], generators=[np.random.default_rng(seed)])
        frames = (tokens.values.reshape(2, 8, 16) == 0).all(dim=2).all(dim=0)
        assert not frames[3:].any()


def test_a_random_crop_is_a_stretch_of_the_sound_and_the_same_for_the_same_generator():
    tokenizer = MelPatches(**SMALL, crop="random")
    ramp = Waveform(np.linspace(0, 1, 40_000, dtype=np.float32), 8000)
    draw = [tokenizer.encode([ramp], generators=[np.random.default_rng(s)]) for s in (1, 1, 2)]
    assert torch.equal(draw[0].values, draw[1].values)
    assert not torch.equal(draw[0].values, draw[2].values)
    assert torch.equal(tokenizer.encode([ramp]).values, MelPatches(**SMALL).encode([ramp]).values)


class Anew:
    """Generators made when asked for, as data workers have them."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if index:
            raise IndexError
        return np.random.default_rng(3)


def test_generators_made_when_asked_for_draw_what_ready_ones_draw():
    options = {"crop": "random", "time_masks": 1, "time_width": 6,
               "frequency_masks": 1, "frequency_width": 9}  # fmt: skip
    tokenizer = MelPatches(**SMALL, **options)
    raw = sound(40_000)
    ready = tokenizer.encode([raw], generators=[np.random.default_rng(3)])
    assert torch.equal(tokenizer.encode([raw], generators=Anew()).values, ready.values)


def test_autocast_leaves_the_spectrogram_exact():
    tokenizer = MelPatches(**SMALL)
    plain = tokenizer.encode([sound(900)]).values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokenizer.encode([sound(900)]).values, plain)


def test_lists_of_sounds_keep_their_owner_through_finish():
    tokenizer = MelPatches(**SMALL, on_device=True)
    cut = tokenizer.encode([sound(700), sound(1, 1), sound(1, 2)])
    owned = cut.with_rows(cut.values, replace(cut.layout, owner=torch.tensor([1, 1, 3]), samples=4))
    layout = tokenizer.finish(owned).layout
    assert layout.owners == (1, 1, 3)
    assert layout.samples == 4
    assert layout.present == (False, True, False, True)


def test_check_refuses_what_encode_can_not_take():
    tokenizer = MelPatches(**SMALL)
    tokenizer.check(sound(10))
    with pytest.raises(UnreadableError, match="44100 samples a second, the tokenizer takes 8000"):
        tokenizer.check(sound(10, rate=44100))
    with pytest.raises(UnreadableError, match="no samples"):
        tokenizer.check(sound(0))
    with pytest.raises(UnreadableError, match="NaN"):
        tokenizer.check(Waveform(np.array([np.nan], np.float32), 8000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0}, "hop"),
        ({"n_mels": 30}, "multiple of patch"),
        ({"patch": (0, 16)}, "patch"),
        ({"f_max": 9000.0}, "half the rate, 4000 Hz"),
        ({"f_min": 4000.0}, "f_min"),
        ({"seconds": -1.0}, "seconds"),
        ({"std": 0.0}, "std"),
        ({"top_db": 0.0}, "top_db"),
        ({"n_mels": 512}, "hold no frequency"),
        ({"time_masks": -1}, "negative"),
        ({"frequency_width": 33}, "frequency_width"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MelPatches(**{**SMALL, **options})


def test_it_can_be_pickled_and_touches_no_global_random_state():
    tokenizer = pickle.loads(pickle.dumps(MelPatches(**SMALL, time_masks=1, time_width=3)))
    torch.manual_seed(0)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    tokenizer.encode([sound(900)], generators=[np.random.default_rng(0)])
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


def test_the_plugin_itself_imports_neither_torch_nor_librosa():
    heavy = "{'torch', 'librosa', 'soundfile'}"
    code = f"import sys, polymodal_audio; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_long_sound_is_decoded_no_further_than_its_patches_need():
    samples = np.random.default_rng(0).normal(0, 0.1, 8 * 8000).astype(np.float32)
    asked = []

    def decode(start, stop):
        asked.append((start, stop))
        return samples[start:stop]

    long = Recording(8000, len(samples), decode)
    whole = Waveform(samples, 8000)
    tokenizer = MelPatches(rate=8000, n_fft=256, hop=80, n_mels=32, seconds=1.0, crop="random",
                           time_masks=1, time_width=10)  # fmt: skip
    tokenizer.check(long)
    assert tokenizer.count([long]) == tokenizer.count([whole])
    assert asked == []
    for seed in (None, 3):
        draws = None if seed is None else [np.random.default_rng(seed)]
        wanted = tokenizer.encode([whole], generators=draws)
        draw = None if seed is None else np.random.default_rng(seed)
        small = tokenizer.shrink(long, generator=draw)
        again = None if draw is None else [draw]
        assert torch.equal(tokenizer.encode([small], generators=again).values, wanted.values)
    assert [stop - start for start, stop in asked] == [8000, 8000]
    assert asked[1][0] > 0
