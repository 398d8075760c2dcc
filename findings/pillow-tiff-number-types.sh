#!/usr/bin/env bash
# Pillow 12 (MIT-CMU): signed 8-bit and unsigned 32-bit grey TIFF come out as other numbers, silently.
# Guess: a mode that can't hold a file's numbers is refused, or they are kept as they are.
# Seen: int8 -1 is read as 255 (mode L); uint32 above 2^31 wraps to negative numbers (mode I). No warning.
# What it means for us: `vision.image` reads a TIFF's numbers by the file's own tags, or refuses it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.0.0 numpy==2.3.4
"$folder/venv/bin/python" -W error - <<'PY'
import io
import struct

import numpy as np
import PIL
from PIL import Image


def tiff(array, sign):
    """Return a grey TIFF of one strip; sign: 1 unsigned, 2 signed."""
    data, (height, width), bits = array.tobytes(), array.shape, array.itemsize * 8
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, height), (279, len(data)), (339, sign)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags))
            + body + struct.pack("<I", 0))


for array, sign in (
    (np.array([[-1, 1], [-128, 127]], np.int8), 2),
    (np.array([[0, 2**31 - 1], [2**31, 2**32 - 1]], np.uint32), 1),
):
    image = Image.open(io.BytesIO(tiff(array, sign)))
    found = np.asarray(image)
    print(array.dtype, array.tolist(), "->", image.mode, found.dtype, found.tolist())
    assert not np.array_equal(found.astype(np.int64), array.astype(np.int64)), "kept now"
print("version", PIL.__version__)
PY
