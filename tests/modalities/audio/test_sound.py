import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest

from polymodal import UnreadableError

pytest.importorskip("librosa")
import soundfile

from polymodal_audio.sound import SoundReader, Waveform

RATE = 8000


def tone(seconds=0.5, rate=RATE, channels=1):
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * 200 * (c + 1) * time) for c in range(channels)])


def written(samples, *, rate=RATE, kind="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype", "close"),
    [("WAV", "FLOAT", 1e-6), ("FLAC", None, 1e-4), ("OGG", "VORBIS", 0.2), ("MP3", None, 0.2)],
)
def test_formats_are_read_by_content(kind, subtype, close):
    samples = tone()
    sound = SoundReader(rate=RATE)(written(samples, kind=kind, subtype=subtype))
    assert sound.rate == RATE
    assert sound.samples.dtype == np.float32
    middle = slice(1000, 3000)
    assert np.abs(sound.samples[middle] - samples[0][middle]).max() < close


def test_a_path_a_mapping_and_bytes_give_the_same_sound(tmp_path):
    data = written(tone())
    path = tmp_path / "tone.mp3"  # the extension lies: the content is wav
    path.write_bytes(data)
    read = SoundReader(rate=RATE)
    values = [data, str(path), path, {"path": "elsewhere.wav", "bytes": data},
              {"path": str(path), "bytes": None}]  # fmt: skip
    sounds = [read(value).samples for value in values]
    assert all(np.array_equal(sound, sounds[0]) for sound in sounds)


def test_arrays_are_scaled_by_their_kind_and_resampled_from_their_rate():
    read = SoundReader(rate=RATE)
    assert read(np.array([0.5, -0.25])).samples.tolist() == [0.5, -0.25]
    assert read(np.array([16384, -32768], dtype=np.int16)).samples.tolist() == [0.5, -1.0]
    assert read(np.array([128, 192], dtype=np.uint8)).samples.tolist() == [0.0, 0.5]
    doubled = read({"array": tone(rate=2 * RATE)[0], "sampling_rate": 2 * RATE})
    assert len(doubled.samples) == RATE // 2
    assert np.abs(doubled.samples - tone()[0])[500:3500].max() < 1e-3
    again = read(Waveform(doubled.samples, RATE))
    assert np.array_equal(again.samples, doubled.samples)


def test_rate_none_keeps_the_files_own():
    assert SoundReader(rate=None)(written(tone(rate=11025), rate=11025)).rate == 11025


def test_eight_channels_are_mixed_or_chosen():
    samples = tone(channels=8)
    data = written(samples, subtype="FLOAT")
    for channels, wanted in [
        ("mean", samples.mean(axis=0)),
        ("first", samples[0]),
        (5, samples[5]),
    ]:
        found = SoundReader(rate=RATE, channels=channels)(data).samples
        assert np.allclose(found, wanted, atol=1e-6)
    with pytest.raises(UnreadableError, match="channels is 8, but the sound has 8"):
        SoundReader(rate=RATE, channels=8)(data)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_window_is_the_same_stretch_as_cutting_the_whole(kind):
    data = written(tone(), kind=kind)
    whole = SoundReader(rate=RATE)(data).samples
    part = SoundReader(rate=RATE, start=0.1, seconds=0.2)(data).samples
    assert np.array_equal(part, whole[800:2400])
    from_array = SoundReader(rate=RATE, start=0.1, seconds=0.2)(whole).samples
    assert np.array_equal(from_array, part)


def test_a_window_decodes_only_what_it_needs(monkeypatch):
    asked = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read",
        lambda self, frames=-1, **rest: asked.append((self.tell(), frames))
        or read(self, frames, **rest),
    )  # fmt: skip
    SoundReader(rate=RATE, start=0.1, seconds=0.2)(written(tone()))
    assert asked == [(800, 1600)]


def test_one_sample_and_silence_are_sounds():
    assert SoundReader(rate=16000)(written(tone()[:, 1:2], rate=RATE)).samples.size >= 1
    assert SoundReader(rate=16000)({"array": [0.5], "sampling_rate": 44100}).samples.size == 1
    silent = SoundReader(rate=16000)(written(np.zeros((1, 100))))
    assert not silent.samples.any()
    assert len(silent.samples) == 200


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"this is text, not sound", "not a sound file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a sound file"),
        (np.zeros(0), "no samples"),
        (np.array([0.1, np.nan]), "NaN"),
        (np.array([0.1, np.inf]), "NaN or infinite"),
        (np.array([1e300]), "infinite"),
        (np.zeros((2, 2, 2)), r"\[time\] or \[channel, time\]"),
        (np.zeros((100, 2)), "transpose"),
        (np.zeros((0, 5)), "no channels"),
        (np.array(["a"]), "must be a path, bytes or numbers"),
        ([[1.0], [1.0, 2.0]], "no array"),
        ({"text": 1}, "needs 'bytes', 'path' or 'array'"),
        ({"path": None, "bytes": None}, "needs"),
        ("missing.wav", "missing.wav: No such file"),
    ],
)
def test_what_is_no_sound_is_refused_with_its_reason(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        SoundReader()(value)


def test_a_file_without_samples_or_with_nan_is_refused(tmp_path):
    with pytest.raises(UnreadableError, match="no samples"):
        SoundReader()(written(np.zeros((1, 0))))
    with pytest.raises(UnreadableError, match="NaN"):
        SoundReader()(written(np.array([[0.0, np.nan]]), subtype="FLOAT"))
    with pytest.raises(UnreadableError, match="folder"):
        SoundReader()(tmp_path)


def test_a_file_with_another_kinds_extension_is_refused_by_name(tmp_path):
    path = tmp_path / "photo.wav"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
    with pytest.raises(UnreadableError, match=r"photo\.wav: not a sound file"):
        SoundReader()(str(path))


def test_a_start_past_the_end_is_refused():
    with pytest.raises(UnreadableError, match=r"lasts 0\.5 s"):
        SoundReader(start=2)(written(tone()))
    with pytest.raises(UnreadableError, match=r"lasts 0\.5 s"):
        SoundReader(rate=RATE, start=2)(tone())


def test_an_array_without_any_rate_is_refused():
    with pytest.raises(UnreadableError, match="sampling_rate"):
        SoundReader(rate=None)(np.zeros(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate"),
        ({"channels": -1}, "channels"),
        ({"channels": "left"}, "channels"),
        ({"start": -1.0}, "start"),
        ({"seconds": 0.0}, "seconds"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SoundReader(**options)


def test_a_header_that_lies_costs_no_memory_and_breaks_nothing():
    data = bytearray(written(tone(), kind="FLAC"))
    at = data.index(b"fLaC") + 8 + 13  # the total number of samples, 36 bits
    data[at] |= 0x0F
    data[at + 1 : at + 5] = b"\xff" * 4
    with contextlib.suppress(UnreadableError):
        assert len(SoundReader(rate=RATE)(bytes(data)).samples) <= RATE // 2
    with pytest.raises(UnreadableError, match="is no sound"):
        SoundReader()({"array": [0.0, 1.0], "sampling_rate": 1})


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_a_damaged_file_is_read_in_part_or_refused(kind):
    whole = written(tone(), kind=kind)
    generator = np.random.default_rng(0)
    for trial in range(20):
        data = bytearray(whole)
        if trial % 2:
            data = data[: generator.integers(1, len(data))]
        else:
            for place in generator.integers(0, min(len(data), 400), size=8):
                data[place] = generator.integers(256)
        with contextlib.suppress(UnreadableError):
            assert np.isfinite(SoundReader(rate=RATE)(bytes(data)).samples).all()


def m4a(path: Path, samples, rate=RATE):
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_m4a_is_read_through_pyav_whole_and_by_window(tmp_path):
    path = m4a(tmp_path / "tone.m4a", tone(seconds=2.0))
    whole = SoundReader(rate=RATE)(path).samples
    assert abs(len(whole) - 2 * RATE) <= 2048
    part = SoundReader(rate=RATE, start=1.0, seconds=0.25)(path.read_bytes()).samples
    assert len(part) == RATE // 4
    assert np.abs(part - whole[RATE : RATE + RATE // 4]).max() < 1e-2
    wanted = tone(seconds=2.0)[0][RATE : RATE + RATE // 4]
    assert np.corrcoef(part, wanted)[0, 1] > 0.99
    with pytest.raises(UnreadableError, match="no samples from 9 s"):
        SoundReader(rate=RATE, start=9)(path)


def test_without_pyav_the_error_names_it(tmp_path, monkeypatch):
    path = m4a(tmp_path / "tone.m4a", tone())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnreadableError, match="pip install av"):
        SoundReader()(path)


def ogg(frequency, *, seconds=1.0, rate=RATE, channels=1, subtype="VORBIS"):
    time = np.arange(round(seconds * rate))
    samples = np.stack([0.5 * np.sin(time * frequency)] * channels)
    return written(samples, rate=rate, kind="OGG", subtype=subtype)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_all_links_of_a_chained_ogg_are_read(subtype, tmp_path):
    links = [ogg(0.3, subtype=subtype), ogg(0.6, seconds=0.5, subtype=subtype)]
    read = SoundReader(rate=None)
    apart = [read(link).samples for link in links]
    path = tmp_path / "chain.ogg"
    path.write_bytes(b"".join(links))
    for value in (path, path.read_bytes()):
        assert np.array_equal(read(value).samples, np.concatenate(apart))
    part = SoundReader(rate=None, start=0.9, seconds=0.3)(path).samples
    assert len(part) == round(0.3 * RATE)
    assert np.abs(part - np.concatenate(apart)[round(0.9 * RATE) :][: len(part)]).max() < 0.02


def test_links_that_do_not_fit_are_refused():
    with pytest.raises(UnreadableError, match="several rates: 8000, 16000"):
        SoundReader()(ogg(0.3) + ogg(0.3, rate=16000))
    with pytest.raises(UnreadableError, match="of 1 and of 2 channels"):
        SoundReader()(ogg(0.3) + ogg(0.3, channels=2))


def test_whole_numbers_without_a_type_are_refused_unless_they_are_no_louder_than_one():
    read = SoundReader(rate=RATE)
    for value in ([0, 1000, -32768], np.array([2]), {"array": [7], "sampling_rate": RATE}):
        with pytest.raises(UnreadableError, match="store samples as int16"):
            read(value)
    assert read([0, 1, -1]).samples.tolist() == [0, 1, -1]


def test_a_sound_is_resampled_in_blocks_to_the_bit_as_at_once(monkeypatch):
    import soxr

    from polymodal_audio import decoding

    samples = np.random.default_rng(0).normal(0, 0.1, (2, 44100)).astype(np.float32)
    data = written(samples, rate=44100, subtype="FLOAT")
    monkeypatch.setattr(decoding, "BLOCK", 1000)
    wanted = soxr.resample(samples.mean(axis=0), 44100, 16000, quality="HQ")
    assert np.array_equal(SoundReader(rate=16000)(data).samples, wanted)


@pytest.mark.parametrize(("kind", "rate"), [("FLAC", RATE), ("WAV", 11025), ("OGG", RATE)])
def test_a_stretch_of_a_long_sound_is_the_same_as_of_the_whole(kind, rate, monkeypatch):
    from polymodal_audio import decoding, sound

    data = written(tone(seconds=6.0), kind=kind)
    read = SoundReader(rate=rate, start=0.25)
    whole = read(data).samples
    monkeypatch.setattr(sound, "LONG", 1000)
    monkeypatch.setattr(decoding, "BLOCK", 1000)
    long = read(data)
    assert isinstance(long, sound.Recording)
    assert len(long) == len(whole)
    assert np.array_equal(long.cut(0, 5000), whole[:5000])
    close = 0.02 if kind == "OGG" else 1e-6
    for start in (1, 20000, len(whole) - 5000):
        found = long.cut(start, start + 5000)
        assert len(found) == 5000
        assert np.abs(found - whole[start : start + 5000]).max() <= close
    assert np.array_equal(long.samples, whole)


def test_a_long_header_over_a_short_file_is_read_as_far_as_it_goes(monkeypatch):
    from polymodal_audio import sound

    monkeypatch.setattr(sound, "LONG", 1000)
    whole = written(tone(seconds=2.0), kind="FLAC")
    found = SoundReader(rate=RATE)(whole[: len(whole) // 2])
    assert 0 < len(found) < 2 * RATE
    assert len(found.samples) == len(found)


def test_a_sound_longer_than_allowed_is_refused():
    with pytest.raises(UnreadableError, match=r"longer than max_seconds 0\.4"):
        SoundReader(rate=RATE, max_seconds=0.4)(written(tone()))
    assert len(SoundReader(rate=RATE, max_seconds=0.4, seconds=0.3)(written(tone()))) == 2400


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"bytes": "abc"}, "'bytes' must be bytes, got str"),
        ({"bytes": 10}, "'bytes' must be bytes, got int"),
        ({"path": 10}, "'path' must be a path"),
        ("a\0b", "null character"),
        ("a" * 5000, "too long"),
    ],
)
def test_what_holds_no_sound_file_says_why(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        SoundReader()(value)


def tagged(kind, *, first=0.0, sound_first=None, codec="aac"):
    """Return a file of two seconds of film and tone, both or each from a second on."""
    av = pytest.importorskip("av")
    from fractions import Fraction

    buffer = io.BytesIO()
    rate = 48000
    with av.open(buffer, "w", format=kind) as container:
        film = container.add_stream("libx264", rate=10)
        film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="mono")
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + round(10 * first), Fraction(1, 10)
            container.mux(film.encode(frame))
        samples = tone(seconds=2.0, rate=rate).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round((first if sound_first is None else sound_first) * rate)
        container.mux(sound.encode(frame))
        for stream in (film, sound):
            container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "first"), [("mpegts", 0), ("mpegts", 10), ("matroska", 10)])
def test_the_sound_of_a_film_counts_from_the_containers_start(kind, first):
    data = tagged(kind, first=first)
    whole = SoundReader(rate=48000)(data).samples
    assert abs(len(whole) - 96000) <= 4096
    part = SoundReader(rate=48000, start=0.5, seconds=1.0)(data).samples
    assert len(part) == 48000
    assert np.abs(part - whole[24000:72000]).max() < 1e-3
    # An AAC encoder's first frame is silence: MPEG-TS has no way to say so, and begins with it.
    late = 1024 if kind == "mpegts" else 0
    wanted = tone(seconds=2.0, rate=48000)[0][24000 - late : 72000 - late]
    assert np.abs(part - wanted).max() < 0.1  # in phase: within a few samples of its place


def test_a_sound_that_sets_in_after_the_pictures_follows_on_silence():
    data = tagged("matroska", sound_first=0.5)
    whole = SoundReader(rate=48000)(data).samples
    assert not whole[:20000].any()
    assert np.abs(whole[30000:40000]).max() > 0.4
    part = SoundReader(rate=48000, start=0.25, seconds=0.5)(data).samples
    assert np.abs(part - whole[12000:36000]).max() < 1e-3
