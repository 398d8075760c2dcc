import contextlib
import io
import re
import zipfile

import numpy as np
import pytest
import torch

from polymodal import UnreadableError
from polymodal_vision.region_encoder import RegionEncoder
from polymodal_vision.regions import RegionReader, Regions, RegionSet, box_numbers


def value(count=3, features=4, **more):
    """Regions as a record has them, all different."""
    generator = np.random.default_rng(count)
    corner = generator.uniform(0, 50, (count, 2))
    return {
        "features": generator.standard_normal((count, features)),
        "boxes": np.concatenate([corner, corner + 10], axis=1),
        "width": 100,
        "height": 80,
        **more,
    }


def read(**options):
    return RegionReader()(value(**options))


def test_a_box_becomes_seven_shares_of_the_image():
    found = box_numbers(np.array([[10, 20, 50, 80]]), 100, 200)
    np.testing.assert_allclose(found[0], [0.1, 0.1, 0.5, 0.4, 0.4, 0.3, 0.12], rtol=1e-6)


def test_a_box_is_cut_off_at_the_edge_of_the_image():
    found = box_numbers(np.array([[-10, 20, 130, 80]]), 100, 100)
    np.testing.assert_allclose(found[0], [0, 0.2, 1, 0.8, 1, 0.6, 0.6], rtol=1e-6)


def test_a_file_holds_what_a_mapping_does(tmp_path):
    whole = value(confidence=[0.1, 0.5, 0.9], classes=np.eye(3))
    np.savez(tmp_path / "regions.npz", **whole)
    content = (tmp_path / "regions.npz").read_bytes()
    wanted = RegionReader()(whole)
    for given in (str(tmp_path / "regions.npz"), content, {"path": None, "bytes": content}):
        found = RegionReader()(given)
        np.testing.assert_array_equal(found.features, wanted.features)
        np.testing.assert_array_equal(found.boxes, wanted.boxes)
        np.testing.assert_array_equal(found.classes, wanted.classes)
        np.testing.assert_array_equal(found.confidence, wanted.confidence)


def pickled():
    file = io.BytesIO()
    np.savez(file, features=np.array([{}], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": [[1.0]], "boxes": [[0, 0, 1, 1]], "width": 2}, "need 'height'"),
        (value(boxes=np.zeros((2, 4))), "2 rows for 3 regions"),
        (value(boxes=np.zeros((3, 5))), "[region, 4]"),
        (value(boxes=[[5, 5, 1, 9]] * 3), "x1 <= x2"),
        (value(width=0), "above 0"),
        (value(features=2) | {"features": np.full((3, 2), np.nan)}, "NaN"),
        (value() | {"features": ["a", "b", "c"]}, "numbers"),
        (value(confidence=[0.5]), "confidence has 1 rows"),
        (b"no file", "not an .npz"),
        (pickled(), "not an .npz"),
        ("missing.npz", "missing.npz"),
        (7, "int"),
    ],
)
def test_what_is_no_region_set_is_refused_with_the_reason(given, message):
    with pytest.raises(UnreadableError, match=re.escape(message)):
        RegionReader()(given)


def test_features_are_values_and_boxes_positions():
    found = read()
    tokens = Regions(features=4).encode([found, None])
    assert tokens.layout.lengths == (3, 0)
    assert torch.equal(tokens.values, torch.from_numpy(found.features))
    assert torch.equal(tokens.layout.positions, torch.from_numpy(found.boxes))
    assert not tokens.layout.channels


def test_soft_labels_are_a_channel_where_they_are_asked_for():
    found = read(classes=np.eye(3))
    tokens = Regions(features=4, classes=3).encode([None, found])
    assert torch.equal(tokens.layout.channels["classes"], torch.eye(3))
    assert Regions(features=4, classes=3).spec.structure == ("classes",)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"min_regions": 0}, [1, 3]),  # those above 0.2
        ({"min_regions": 3, "max_regions": 3}, [1, 2, 3]),  # and the next surest
        ({"min_regions": 0, "max_regions": 1}, [3]),
        ({}, [0, 1, 2, 3]),  # fewer than ten: all
    ],
)
def test_the_surest_regions_are_kept_in_their_order(options, kept):
    found = read(count=4, confidence=[0.05, 0.5, 0.2, 0.9])
    tokenizer = Regions(features=4, **options)
    assert tokenizer.count([found]) == [len(kept)]
    assert torch.equal(tokenizer.encode([found]).values, torch.from_numpy(found.features[kept]))


def test_an_image_without_regions_has_no_tokens():
    empty = RegionReader()({"features": [], "boxes": [], "width": 5, "height": 5})
    tokenizer = Regions(features=4, classes=2)
    tokenizer.check(empty)
    assert tokenizer.encode([empty]).layout.lengths == (0,)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((2, 4)), "RegionSet"),
        (read(features=5), "4 features, got 5"),
        (read(), "3 classes, got 0"),
    ],
)
def test_regions_of_another_size_are_refused(raw, message):
    with pytest.raises(UnreadableError, match=message):
        Regions(features=4, classes=3).check(raw)


@pytest.mark.parametrize(
    "options",
    [{"features": 0}, {"features": 4, "min_regions": 5, "max_regions": 4}],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        Regions(**options)


def test_the_stem_adds_two_normalised_projections():
    torch.manual_seed(0)
    tokenizer = Regions(features=4)
    encoder = RegionEncoder(tokenizer.spec, width=6)
    tokens = tokenizer.encode([read(), read(count=2)])
    stem = encoder.stem
    wanted = []
    for row in range(5):
        total = torch.zeros(6, dtype=torch.float64)
        for line, rows in ((stem.features, tokens.values), (stem.boxes, tokens.layout.positions)):
            x = line.weight.double() @ rows[row].double() + line.bias.double()
            total += (x - x.mean()) / (x.var(unbiased=False) + 1e-6).sqrt()
        wanted.append(total)
    found = encoder(tokens)
    torch.testing.assert_close(found.vectors.double(), torch.stack(wanted), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled[0], found.vectors[:3].mean(dim=0))


def test_the_way_back_is_the_projection_transposed():
    encoder = RegionEncoder(Regions(features=4).spec, width=6)
    rows = torch.randn(2, 6)
    assert torch.equal(encoder.unembed(rows), rows @ encoder.stem.features.weight)


def test_the_order_of_regions_does_not_matter():
    tokenizer = Regions(features=4)
    encoder = RegionEncoder(tokenizer.spec, width=8, depth=1, heads=2)
    found = read()
    turned = RegionSet(found.features[::-1].copy(), found.boxes[::-1].copy())
    first, second = encoder(tokenizer.encode([found])), encoder(tokenizer.encode([turned]))
    torch.testing.assert_close(first.vectors, second.vectors.flip(0))


def test_any_damage_to_an_npz_file_is_read_or_refused(tmp_path):
    np.savez_compressed(tmp_path / "regions.npz", **value())
    whole = (tmp_path / "regions.npz").read_bytes()
    generator = np.random.default_rng(0)
    for trial in range(150):
        content = bytearray(whole)
        if trial % 3 == 0:
            content = content[: generator.integers(len(content))]
        for place in generator.integers(0, len(content) or 1, size=3 if content else 0):
            content[place] = generator.integers(256)
        with contextlib.suppress(UnreadableError):
            RegionReader()(bytes(content))


def test_a_header_that_promises_more_than_the_file_holds_allocates_nothing():
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (400000000, 1000), }"
    header += b" " * (117 - len(header)) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("features.npy", array)
    with pytest.raises(UnreadableError, match="claims 3200000000000 bytes"):
        RegionReader()(buffer.getvalue())


def test_a_file_that_unpacks_to_too_much_is_refused_before(tmp_path):
    np.savez_compressed(tmp_path / "many.npz", features=np.zeros((1000, 100)))
    with pytest.raises(UnreadableError, match="more than 1000"):
        RegionReader(max_bytes=1000)(str(tmp_path / "many.npz"))


@pytest.mark.parametrize("given", [{"bytes": "abc"}, {"bytes": 10}, {"path": 10}, "a\0b"])
def test_what_holds_no_regions_file_is_refused(given):
    with pytest.raises(UnreadableError, match="must be|null"):
        RegionReader()(given)
