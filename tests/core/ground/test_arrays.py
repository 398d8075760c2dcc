import io
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.ground.arrays import read_npy, read_npz


def header(text, version=1):
    """An .npy file's beginning with this header."""
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text.encode()


def claims(shape, descr="<f4", order="False"):
    return header(f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")


@pytest.fixture
def write(tmp_path):
    def write(content, name="a.npy"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def saved(save, *args, **kwargs):
    file = io.BytesIO()
    save(file, *args, **kwargs)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [np.arange(6).reshape(2, 3), np.array(3.5), np.zeros((0, 2)), np.array(["a", "bc"]),
     np.asfortranarray(np.arange(6.0).reshape(2, 3))],
)  # fmt: skip
def test_what_numpy_saves_is_read(write, array):
    assert np.array_equal(read_npy(write(saved(np.save, array))), array)
    for save in (np.savez, np.savez_compressed):
        found = read_npz(write(saved(save, x=array, y=np.ones(2)), "a.npz"), max_bytes=10_000)
        assert set(found) == {"x", "y"}
        assert np.array_equal(found["x"], array)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            claims("(10**12, 10**6)".replace("10**12", "1" + "0" * 12).replace("10**6", "1000000")),
            r"claims float32 \[1000000000000, 1000000\], but it has",
        ),
        (claims("(-1,)") + bytes(8), "claims"),
        (claims("(1,)", descr="|O") + bytes(8), "Python objects"),
        (claims("(4,)") + bytes(8), "claims|read all data|EOF"),
        (header("{'descr': open('x')}\n"), "header can't be read"),
        (header("(" * 300), "header can't be read"),
        (b"\x93NUMPY\x09\x00", "header can't be read"),
        (b"", "header can't be read"),
        (b"PK\x03\x04", "several arrays"),
    ],
)
def test_damage_is_told_in_one_line_and_nothing_is_allocated(write, content, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        read_npy(write(content))
    assert "\n" not in str(caught.value)
    if not content.startswith(b"PK"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(ValueError, match=reason):
            read_npz(write(file.getvalue(), "a.npz"), max_bytes=10_000)


def test_a_file_that_unpacks_to_more_than_is_allowed_is_refused(write):
    path = write(saved(np.savez_compressed, x=np.zeros(1000, np.uint8)), "a.npz")
    assert path.stat().st_size < 500
    assert len(read_npz(path, max_bytes=1128)["x"]) == 1000
    with pytest.raises(ValueError, match="unpacks to 1128 bytes, more than max_bytes, 1127"):
        read_npz(path, max_bytes=1127)


whole = saved(np.savez_compressed, x=np.arange(40), y=np.ones((2, 3)))


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, len(whole) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_no_damage_raises_anything_else(place, byte, cut, tmp_path_factory):
    content = whole[:place] if cut else whole[:place] + bytes([byte]) + whole[place + 1 :]
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    with suppress(ValueError, OSError):
        read_npz(path, max_bytes=10_000)
