import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from polymodal import UnreadableError
from polymodal_vision.image import ImageReader, check_picture, to_rgb


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("1", (2, 3), 1), (255, 255, 255)),
        (Image.new("L", (2, 3), 77), (77, 77, 77)),
        (Image.new("LA", (2, 3), (100, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 3), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("I;16", (2, 3), 65535), (255, 255, 255)),
        (Image.new("I;16", (2, 3), 257 * 9), (9, 9, 9)),
        (Image.new("RGB", (2, 3), (10, 20, 30)).convert("P"), None),
    ],
)
def test_every_png_mode_becomes_rgb(image, colour):
    pixels = ImageReader()(encoded(image))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 2, 3)
    assert (pixels == (colour if colour else np.asarray(image.convert("RGB")))).all()


def test_cmyk_hsv_ycbcr_lab_and_float_images_become_rgb():
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for mode in ("CMYK", "HSV", "YCbCr"):
        pixels = ImageReader()(red.convert(mode))
        assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 2
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    brown = Image.new("RGB", (4, 4), (120, 80, 60))
    lab = ImageCms.applyTransform(brown, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert np.abs(ImageReader()(lab).astype(int) - (120, 80, 60)).max() <= 3
    assert (ImageReader()(Image.new("F", (2, 2), 0.2)) == 51).all()
    assert (ImageReader()(Image.new("I", (2, 2), 200)) == 200).all()


def test_a_transparent_palette_shows_the_background():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    pixels = ImageReader(background=(1, 2, 3))(encoded(image, transparency=0))
    assert pixels.tolist() == [[[1, 2, 3], [0, 255, 0]]]


def test_a_turned_photograph_is_set_upright():
    image = Image.new("RGB", (2, 1), (255, 0, 0))
    image.putpixel((1, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    pixels = ImageReader()(encoded(image, exif=exif))
    assert pixels[:, 0].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_damaged_exif_does_not_cost_the_image():
    pixels = ImageReader()(encoded(noise(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff"))
    assert pixels.shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_truncated_file_is_unreadable(kind, share, tmp_path):
    content = encoded(noise(), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(content[: max(int(len(content) * share), 1)])
    with pytest.raises(UnreadableError, match=r"cut\."):
        ImageReader()(str(path))


def test_what_is_no_image_says_why(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    reasons = {
        "empty.png": "empty",
        "text.jpg": "not an image",
        "gone.png": "no such file",
        ".": "directory",
        "a\0b": "null",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableError, match=f"(?i){reason}"):
            ImageReader()(str(tmp_path / name))
    for value in (
        {"path": None, "bytes": None},
        {"path": None, "bytes": b""},
        None,
        "",
        7,
        "x" * 9,
    ):
        with pytest.raises(UnreadableError):
            ImageReader()(value)


def test_the_extension_does_not_matter(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(noise()))
    assert (ImageReader()(path) == np.asarray(noise())).all()


def test_bytes_go_before_the_path():
    value = {"path": "/nowhere.png", "bytes": encoded(noise())}
    assert (ImageReader()(value) == np.asarray(noise())).all()


def test_too_many_pixels_are_refused_before_decoding_and_pillows_limit_is_put_back(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    content = encoded(noise())
    assert ImageReader()(content).shape == (40, 60, 3)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(UnreadableError, match=r"60 x 40 = 2400 pixels, more than max_pixels 2399"):
        ImageReader(max_pixels=2399)(content[:100])


def test_one_pixel_and_a_huge_image_are_read():
    assert ImageReader()(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]
    assert ImageReader()(encoded(Image.new("1", (9000, 3000)))).shape == (3000, 9000, 3)


def test_arrays_of_every_usual_kind_are_taken():
    grey = np.array([[0, 128], [255, 3]], dtype=np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    for value in (grey, grey[..., None], rgb, grey.tolist(), grey.astype(np.int64), rgb / 255):
        assert (to_rgb(value) == rgb).all()
    assert (to_rgb(grey.astype(np.uint16) * 257) == rgb).all()
    assert (to_rgb(np.array([[True, False]])) == [[[255] * 3, [0] * 3]]).all()
    rgba = np.array([[[0, 0, 0, 0], [10, 20, 30, 255]]], dtype=np.uint8)
    assert to_rgb(rgba).tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros((3, 8, 8)), "channels first"),
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros((0, 4, 3)), "no pixels"),
        (np.zeros(5), "shape"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.full((2, 2), 128.0), "0 to 1"),
        (np.full((2, 2), 300), "0 to 255"),
        (np.full((2, 2), "a"), "numbers"),
        ([[1, 2], [3]], "array"),
    ],
)
def test_arrays_that_are_no_image_say_why(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        ImageReader()(value)


def test_reading_copies_an_array_so_that_it_can_be_changed():
    raw = np.zeros((2, 2, 3), dtype=np.uint8)
    raw.flags.writeable = False
    assert ImageReader()(raw).flags.writeable


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="background"):
        ImageReader(background=(0, 0, 256))
    with pytest.raises(ValueError, match="max_pixels"):
        ImageReader(max_pixels=0)


def test_check_wants_rgb_levels():
    for raw in (
        None,
        np.zeros((2, 2, 3)),
        np.zeros((2, 2), np.uint8),
        np.zeros((0, 2, 3), np.uint8),
    ):
        with pytest.raises(UnreadableError, match="uint8"):
            check_picture(raw)


def tiff(array, *, bits=None, sign=1, photometric=1, packed=None):
    """Write one strip of grey, as the baseline TIFF specification lays it out."""
    height, width = array.shape
    data = array.tobytes() if packed is None else packed
    tags = [(256, width), (257, height), (258, bits or 8 * array.itemsize), (259, 1),
            (262, photometric), (273, 8), (277, 1), (278, height), (279, len(data)),
            (339, sign)]  # fmt: skip
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (b"II*\0" + struct.pack("<I", 8 + len(data)) + data
            + struct.pack("<H", len(tags)) + fields + struct.pack("<I", 0))  # fmt: skip


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.uint32])
def test_a_tiff_of_signed_or_wide_integers_is_levels_or_refused(kind):
    sign = 2 if np.issubdtype(kind, np.signedinteger) else 1
    levels = np.array([[0, 100], [7, 127]], dtype=kind)
    assert (ImageReader()(tiff(levels, sign=sign))[..., 0] == levels).all()
    high = np.iinfo(kind)
    for wrong in ([[0, -100]] if sign == 2 else [[0, high.max]], [[0, high.min or high.max // 2]]):
        with pytest.raises(UnreadableError, match="integer colours lie in 0 to 255"):
            ImageReader()(tiff(np.array(wrong, dtype=kind), sign=sign))


def test_a_pillow_image_of_wide_integers_is_read_as_an_array_of_them():
    with pytest.raises(UnreadableError, match="0 to 255, got 65535"):
        ImageReader()(Image.new("I", (2, 2), 65535))


def test_a_grey_tiff_of_12_or_16_bits_fills_the_range_also_where_white_is_zero():
    packed = bytes([0x00, 0x0F, 0xFF])  # 0 and 4095
    twelve = ImageReader()(tiff(np.zeros((1, 2), np.uint16), bits=12, packed=packed))
    assert twelve[0, :, 0].tolist() == [0, 255]
    grey = np.array([[0, 257 * 9]], dtype=np.uint16)
    assert ImageReader()(tiff(grey))[0, :, 0].tolist() == [0, 9]
    assert ImageReader()(tiff(grey, photometric=0))[0, :, 0].tolist() == [255, 246]


def swapped_profile():
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.find(b"rXYZ"), profile.find(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


def test_colours_are_brought_to_srgb_by_the_images_profile():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    profile = swapped_profile()
    assert ImageReader()(encoded(red, icc_profile=profile))[0, 0].tolist() == [0, 255, 0]
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 51))
    pixels = ImageReader(background=(0, 0, 0))(encoded(half, icc_profile=profile))
    assert pixels[0, 0].tolist() == [0, 51, 0]
    palette = encoded(red.convert("P", palette=Image.Palette.ADAPTIVE), icc_profile=profile)
    assert ImageReader()(palette)[0, 0].tolist() == [0, 255, 0]


def test_an_srgb_a_damaged_and_a_misplaced_profile_change_nothing():
    pixels = np.asarray(noise())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", srgb[:100]):
        assert (ImageReader()(encoded(noise(), icc_profile=profile)) == pixels).all()
    grey = noise().convert("L")
    found = ImageReader()(encoded(grey, icc_profile=swapped_profile()))
    assert (found[..., 0] == np.asarray(grey)).all()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"bytes": "abc"}, "'bytes' must be bytes, got str"),
        ({"bytes": 10}, "'bytes' must be bytes, got int"),
        ({"path": 3}, "'path' must be a path, got int"),
        ({"file": "a.png"}, "got the keys file"),
        ("a" * 5000, "too long"),
        (b"\0" * 9, "not an image"),
    ],
)
def test_what_holds_no_image_file_says_why(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        ImageReader()(value)
