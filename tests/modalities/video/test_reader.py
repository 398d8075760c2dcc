import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from polymodal import UnreadableError
from polymodal_video import pictures, reader
from polymodal_video.clip import Clip
from polymodal_video.reader import ClipReader


def write(
    target: Path | io.BytesIO,
    levels: list[int],
    *,
    stamps: list[int] | None = None,
    rate: int = 10,
    codec: str = "ffv1",
    size: tuple[int, int] = (32, 48),
    rotation: int | None = None,
    kind: str | None = None,
) -> None:
    """Write one frame of flat grey for each level; `stamps` are in tenths of a second."""
    with av.open(target, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        stream.codec_context.gop_size = 8
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for place, level in enumerate(levels):
            pixels = np.full((*size, 3), level, dtype=np.uint8)
            pixels[: size[0] // 2, : size[1] // 2, 0] = 255  # upper left is red
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = place if stamps is None else stamps[place]
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def levels(clip: Clip) -> list[int]:
    return [int(frame[-1, -1, 1]) for frame in clip.frames]


LEVELS = list(range(0, 200, 10))  # twenty frames, two seconds


@pytest.fixture(scope="module")
def lossless(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "lossless.mkv"
    write(path, LEVELS)
    return path


def test_every_frame_comes_with_its_second(lossless):
    for value in (str(lossless), lossless, lossless.read_bytes(), {"path": str(lossless)}):
        clip = ClipReader()(value)
        assert clip.frames.dtype == np.uint8
        assert clip.frames.shape == (20, 32, 48, 3)
        assert levels(clip) == LEVELS
        np.testing.assert_allclose(clip.seconds, np.arange(20) / 10, atol=1e-6)
        assert (clip.frames[3, 0, 0] == (255, 30, 30)).all()


def test_bytes_go_before_the_path(lossless):
    assert levels(ClipReader()({"path": "/gone", "bytes": lossless.read_bytes()})) == LEVELS


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv", "avi", "gif"])
def test_usual_containers_are_read(kind, tmp_path):
    codec = {"webm": "libvpx-vp9", "gif": "gif", "avi": "mpeg4"}.get(kind, "libx264")
    path = tmp_path / f"clip.{kind}"
    if kind == "gif":
        with av.open(path, "w") as container:
            stream = container.add_stream("gif", rate=10)
            stream.height, stream.width, stream.pix_fmt = 32, 48, "rgb8"
            for level in LEVELS:
                pixels = np.full((32, 48, 3), level, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    else:
        write(path, LEVELS, codec=codec)
    clip = ClipReader()(path)
    assert len(clip.frames) == 20
    # GIF has few colours: there a level is told less well than in a film.
    assert np.abs(np.array(levels(clip)) - LEVELS).max() <= (36 if kind == "gif" else 6)
    np.testing.assert_allclose(np.diff(clip.seconds), 0.1, atol=0.011)


@pytest.mark.parametrize("kind", ["mkv", "mp4", "avi"])
@pytest.mark.parametrize("start", [0.3, 0.85, 1.6])
def test_a_start_between_key_frames_is_found_to_the_frame(kind, start, tmp_path):
    path = tmp_path / f"clip.{kind}"
    write(path, LEVELS, codec="mpeg4")
    clip = ClipReader(start=start, seconds=0.3)(path)
    first = int(np.ceil(start * 10 - 1e-6))
    np.testing.assert_allclose(clip.seconds, np.arange(first, first + 3) / 10, atol=1e-3)
    assert np.abs(np.array(levels(clip)) - LEVELS[first : first + 3]).max() <= 6


def test_only_what_is_needed_is_decoded(lossless, monkeypatch):
    seen = []
    decoded = pictures.Pictures._decoded

    def counted(self, container, stream):
        for item in decoded(self, container, stream):
            seen.append(item[0])
            yield item

    monkeypatch.setattr(pictures.Pictures, "_decoded", counted)
    ClipReader(start=1.0, seconds=0.2)(lossless)
    assert len(seen) <= 6
    assert 0.7 <= min(seen) <= max(seen) <= 1.2
    seen.clear()
    ClipReader(max_frames=3)(lossless)
    assert len(seen) == 3


def test_a_variable_rate_is_kept_or_made_even(tmp_path):
    path = tmp_path / "uneven.mkv"
    write(path, [0, 50, 100, 150], stamps=[0, 1, 2, 8])
    clip = ClipReader()(path)
    np.testing.assert_allclose(clip.seconds, [0, 0.1, 0.2, 0.8], atol=1e-6)
    even = ClipReader(fps=5.0)(path)
    np.testing.assert_allclose(even.seconds, [0, 0.2, 0.4, 0.6, 0.8], atol=1e-6)
    assert levels(even) == [0, 100, 100, 100, 150]
    assert levels(ClipReader(fps=20.0, seconds=0.25)(path)) == [0, 0, 50, 50, 100]
    assert levels(ClipReader(fps=10.0, start=0.5)(path)) == [100, 100, 100, 150]
    assert levels(ClipReader(fps=10.0, max_frames=2)(path)) == [0, 50]


def test_a_stream_that_starts_late_counts_from_its_first_frame(tmp_path):
    path = tmp_path / "late.mkv"
    write(path, [10, 20, 30], stamps=[30, 31, 32])
    np.testing.assert_allclose(ClipReader()(path).seconds, [0, 0.1, 0.2], atol=1e-6)


@pytest.mark.parametrize(("kind", "codec"), [("mkv", "mpeg4"), ("mkv", "ffv1"), ("ts", "libx264")])
def test_a_broken_tail_leaves_the_frames_before_it(kind, codec, tmp_path):
    whole = tmp_path / f"whole.{kind}"
    write(whole, LEVELS, codec=codec)
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    clip = ClipReader()(path)
    assert 0 < len(clip.frames) < 20
    assert np.abs(np.array(levels(clip)) - LEVELS[: len(clip.frames)]).max() <= 6


def test_damage_while_decoding_keeps_what_came_before(lossless, monkeypatch):
    class Breaking:
        def __init__(self, container, after):
            self.container, self.after = container, after

        def __getattr__(self, name):
            return getattr(self.container, name)

        def demux(self, stream):
            for count, packet in enumerate(self.container.demux(stream)):
                if count == self.after:
                    raise av.error.InvalidDataError(1094995529, "Invalid data")
                yield packet

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.container.close()

    opened = av.open
    monkeypatch.setattr(pictures.av, "open", lambda *a, **k: Breaking(opened(*a, **k), 5))
    found = levels(ClipReader()(lossless))
    assert 0 < len(found) <= 5  # threads of the decoder may hold the last ones back
    assert found == LEVELS[: len(found)]
    monkeypatch.setattr(pictures.av, "open", lambda *a, **k: Breaking(opened(*a, **k), 0))
    with pytest.raises(UnreadableError, match=r"no frame that can be decoded: .*Invalid data"):
        ClipReader()(lossless)


def test_what_is_no_video_says_why(tmp_path, lossless):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video at all")
    mp4 = tmp_path / "whole.mp4"
    write(mp4, LEVELS, codec="mpeg4")
    (tmp_path / "cut.mp4").write_bytes(mp4.read_bytes()[:-400])
    with av.open(tmp_path / "sound.mkv", "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(tmp_path / "frameless.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "bgr0"
        container.start_encoding()
    reasons = {
        "empty.mp4": "empty",
        "text.mp4": "not a video",
        "cut.mp4": "not a video|no frame",
        "sound.mkv": "no video stream",
        "frameless.mkv": "no frame|not a video",
        "gone.mp4": "no such file",
        ".": "directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableError, match=reason):
            ClipReader()(str(tmp_path / name))
    for value in (b"", b"rubbish", {"path": None, "bytes": None}, None, 3.0):
        with pytest.raises(UnreadableError):
            ClipReader()(value)
    with pytest.raises(UnreadableError, match=r"from second 9 to inf: the last is at 1\.9 s"):
        ClipReader(start=9.0)(lossless)
    with pytest.raises(UnreadableError, match=r"the last is at 1\.9 s"):
        ClipReader(start=9.0, fps=4.0)(lossless)


def test_a_sideways_film_is_turned_upright(tmp_path):
    path = tmp_path / "turned.mp4"
    write(path, [0], codec="mpeg4", rotation=90)
    clip = ClipReader()(path)
    assert clip.frames.shape == (1, 48, 32, 3)
    # counter-clockwise by 90 degrees, the red upper left goes to the lower left
    red = clip.frames[0, ..., 0] > 128
    assert red[36, 8]
    assert not red[12, 8]
    assert not red[36, 24]


def test_frames_are_scaled_down_while_decoding_but_never_up(lossless):
    assert ClipReader(shorter=16)(lossless).frames.shape == (20, 16, 24, 3)
    assert ClipReader(shorter=640)(lossless).frames.shape == (20, 32, 48, 3)


def test_arrays_are_clips_at_a_given_rate():
    frames = np.arange(8, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    for value in (frames, frames[..., :1], frames[..., 0], frames.tolist()):
        clip = ClipReader()(value)
        assert clip.frames.shape == (8, 1, 1, 3)
        assert clip.seconds.tolist() == list(range(8))
    clip = ClipReader(fps=2.0, start=1.0)({"frames": frames, "fps": 4})
    assert levels(clip) == [4, 6]
    assert clip.seconds.tolist() == [1.0, 1.5]
    assert ClipReader(fps=4.0)(frames).seconds.tolist() == [i / 4 for i in range(8)]
    assert levels(ClipReader()(np.full((1, 2, 2), 0.2))) == [51]
    assert ClipReader()(clip) is clip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), "no frames"),
        (np.zeros((4, 3, 8, 8), np.uint8), "channels first"),
        (np.zeros((4, 4), np.uint8), "shape"),
        (np.full((1, 2, 2, 3), np.nan), "NaN"),
        ({"frames": np.zeros((1, 2, 2, 3), np.uint8), "fps": 0}, "fps"),
    ],
)
def test_arrays_that_are_no_video_say_why(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        ClipReader()(value)


@pytest.mark.parametrize(
    "options",
    [{"start": -1.0}, {"seconds": 0.0}, {"fps": 0.0}, {"max_frames": 0}, {"shorter": 0}],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ClipReader(**options)


def film(kind, codec="libx264", *, count=20, first=0, options=None, matrix=None, aspect=None):
    """Return a film of ten flat frames a second, the n-th of level 9 n."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number in range(count):
            pixels = np.full((32, 64, 3), number * 9, np.uint8)
            pixels[:16, :16] = (255, 0, 0) if matrix else number * 9
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = first * 10 + number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = buffer.getvalue()
    if matrix is not None:
        at = data.index(b"tkhd") + 44  # of a version 0 header
        a, b, c, d = (value << 16 for value in matrix)
        data = data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]
    return data


def numbers(clip: Clip) -> list[int]:
    return [round(float(frame[..., 1].mean()) / 9) for frame in clip.frames]


@pytest.mark.parametrize(
    ("matrix", "red"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((-1, 0, 0, 1), (0, 1)),
        ((1, 0, 0, -1), (1, 0)),
        ((-1, 0, 0, -1), (1, 1)),
        ((0, 1, 1, 0), (0, 0)),
        ((0, 1, -1, 0), (0, 1)),
        ((0, -1, 1, 0), (1, 0)),
        ((0, -1, -1, 0), (1, 1)),
    ],
)
def test_a_display_matrix_turns_and_mirrors_as_players_do(matrix, red):
    clip = ClipReader()(film("mp4", count=1, matrix=matrix))
    assert clip.frames.shape == ((1, 64, 32, 3) if matrix[1] else (1, 32, 64, 3))
    found = clip.frames[0, ..., 0] > 128
    corners = found[[[4], [-5]], [4, -5]]
    assert corners.sum() == 1
    assert corners[red]


@pytest.mark.parametrize("options", [{"g": "250"}, {"g": "5"}, {"g": "5", "bf": "0"}])
@pytest.mark.parametrize("kind", ["mpegts", "mp4", "h264", "avi", "matroska"])
def test_every_frame_from_a_start_on_is_found_wherever_key_frames_lie(kind, options):
    clip = ClipReader(start=0.35, seconds=0.3)(film(kind, options=options))
    np.testing.assert_allclose(clip.seconds, [0.4, 0.5, 0.6], atol=1e-3)
    assert numbers(clip) == [4, 5, 6]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_of_avi_with_b_frames_are_shown_in_their_order(codec):
    data = film("avi", codec, options={"bf": "2", "qmin": "1", "qmax": "1"})
    clip = ClipReader()(data)
    np.testing.assert_allclose(clip.seconds, np.arange(20) / 10, atol=1e-6)
    assert numbers(clip) == list(range(20))
    even = ClipReader(fps=20.0)(data)
    np.testing.assert_allclose(even.seconds, np.arange(39) / 20, atol=1e-6)
    assert numbers(even) == [number // 2 for number in range(39)]
    assert numbers(ClipReader(start=1.0, seconds=0.5)(data)) == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("kind", ["mpegts", "matroska"])
def test_a_film_that_starts_at_ten_seconds_counts_from_there(kind):
    data = film(kind, first=10)
    np.testing.assert_allclose(ClipReader()(data).seconds, np.arange(20) / 10, atol=1e-3)
    assert numbers(ClipReader(start=0.5, seconds=0.2)(data)) == [5, 6]


def test_stamps_that_do_not_rise_are_counted_instead(monkeypatch):
    data = film("mp4", options={"bf": "0"})
    decoded = av.Packet.decode

    class Stuck:
        def __init__(self, packet):
            self.packet = packet

        def __getattr__(self, name):
            return getattr(self.packet, name)

        def decode(self):
            for frame in decoded(self.packet):
                frame.pts = min(frame.pts, 4 * 1024)
                yield frame

    opened = av.open

    class Container:
        def __init__(self, container):
            self.container = container

        def __getattr__(self, name):
            return getattr(self.container, name)

        def demux(self, stream):
            return (Stuck(packet) for packet in self.container.demux(stream))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.container.close()

    monkeypatch.setattr(pictures.av, "open", lambda *a, **k: Container(opened(*a, **k)))
    for start in (0.0, 0.7):
        clip = ClipReader(start=start)(data)
        wanted = np.arange(round(start * 10), 20)
        np.testing.assert_allclose(clip.seconds, wanted / 10, atol=1e-6)
        assert numbers(clip) == wanted.tolist()


def test_a_cover_picture_is_no_film():
    import soundfile
    from PIL import Image

    sound, cover = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, np.zeros(8000, "f4"), 8000, format="MP3")
    Image.new("RGB", (16, 16)).save(cover, "JPEG")
    body = b"\0image/jpeg\0\x03\0" + cover.getvalue()

    def size(count):
        return bytes([count >> 21 & 127, count >> 14 & 127, count >> 7 & 127, count & 127])

    frame = b"APIC" + size(len(body)) + b"\0\0" + body
    with pytest.raises(UnreadableError, match=r"no video stream \(a cover picture is none\)"):
        ClipReader()(b"ID3\x04\0\0" + size(len(frame)) + frame + sound.getvalue())


def test_pixels_that_are_no_squares_are_stretched():
    data = film("mp4", count=1, aspect=Fraction(3, 2))
    assert ClipReader()(data).frames.shape == (1, 32, 96, 3)


def test_a_large_film_is_decoded_twice_to_the_same_frames(monkeypatch, lossless):
    whole = ClipReader(start=0.5, fps=20.0)(lossless)
    monkeypatch.setattr(reader, "HELD", 1)
    again = ClipReader(start=0.5, fps=20.0)(lossless)
    assert np.array_equal(again.frames, whole.frames)
    assert len(again) == len(whole.seconds)
    some = np.array([1, 4, 4, 9])
    assert np.array_equal(np.stack(list(again.take(some))), whole.frames[some])


def test_frames_of_too_many_pixels_are_refused(lossless):
    with pytest.raises(UnreadableError, match=r"48 x 32 = 1536 pixels, more than max_pixels 1535"):
        ClipReader(max_pixels=1535)(lossless)


@pytest.mark.parametrize(
    "value", [{"bytes": "abc"}, {"bytes": 10}, {"path": 1}, "a\0b", "a" * 5000]
)
def test_what_holds_no_video_file_is_refused(value):
    with pytest.raises(UnreadableError, match="must be|null|too long"):
        ClipReader()(value)
