import numpy as np
import pytest

from polymodal import UnreadableError

pytest.importorskip("librosa")

from polymodal_audio.frames import WaveformFrames
from polymodal_audio.sound import Waveform


def ramp(samples):
    return Waveform(np.arange(1, samples + 1, dtype=np.float32), 10)


def test_frames_hold_the_samples_and_the_last_is_filled_with_silence():
    tokens = WaveformFrames(rate=10, frame=4).encode([ramp(6), None, ramp(1)])
    assert tokens.layout.lengths == (2, 0, 1)
    assert tokens.values.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0], [1, 0, 0, 0]]


def test_overlapping_frames_start_a_hop_apart():
    tokenizer = WaveformFrames(rate=10, frame=4, hop=2)
    raws = [ramp(4), ramp(5), ramp(6)]
    tokens = tokenizer.encode(raws)
    assert list(tokens.layout.lengths) == tokenizer.count(raws) == [1, 2, 2]
    assert tokens.values.tolist()[1:3] == [[1, 2, 3, 4], [3, 4, 5, 0]]


@pytest.mark.parametrize("hop", [4, 3])
def test_decode_gives_the_samples_back(hop):
    tokenizer = WaveformFrames(rate=10, frame=4, hop=hop)
    back = tokenizer.decode(tokenizer.encode([ramp(9), None]))
    assert back[0].samples.tolist()[:9] == ramp(9).samples.tolist()
    assert back[1] is None


def test_the_spec_bounds_what_comes():
    tokenizer = WaveformFrames(rate=10, frame=4, seconds=2.0)
    assert (tokenizer.spec.extent, tokenizer.spec.max_tokens) == ((5,), 5)
    assert tokenizer.encode([ramp(99)]).layout.lengths == (5,)
    assert WaveformFrames(seconds=None).spec.extent is None


def test_normalize_gives_each_sound_mean_zero_and_variance_one():
    tokens = WaveformFrames(rate=10, frame=4, normalize=True).encode([ramp(8), ramp(16)])
    for frames in tokens.values.split([2, 4]):
        assert abs(frames.mean()) < 1e-6
        assert abs(frames.var(unbiased=False) - 1) < 1e-5
    silent = WaveformFrames(rate=10, frame=4, normalize=True).encode(
        [Waveform(np.zeros(4, np.float32), 10)]
    )
    assert not silent.values.any()


def test_nothing_makes_no_tokens():
    for raws in ([], [None]):
        tokens = WaveformFrames(rate=10, frame=4, hop=2).encode(raws)
        assert tokens.values.shape == (0, 4)
        assert tokens.layout.samples == len(raws)


def test_check_and_options_refuse_what_can_not_be():
    with pytest.raises(UnreadableError, match="same rate"):
        WaveformFrames(rate=16000).check(ramp(4))
    with pytest.raises(ValueError, match="hop must lie from 1 to frame"):
        WaveformFrames(frame=4, hop=5)
    with pytest.raises(ValueError, match="frame"):
        WaveformFrames(frame=0)
    with pytest.raises(ValueError, match="seconds"):
        WaveformFrames(seconds=0.0)
