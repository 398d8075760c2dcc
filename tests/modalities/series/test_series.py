import numpy as np
import pytest
import torch

from polymodal import UnreadableError, installed
from polymodal_series import Series
from polymodal_series.patches import SeriesPatches
from polymodal_series.reader import SeriesReader

read = SeriesReader()


def spectrum(size, start=3000.0, step=10.0):
    return read({"values": np.arange(size) ** 2, "positions": start + step * np.arange(size)})


def test_patches_follow_each_other_and_zeros_fill_the_last():
    tokens = SeriesPatches(patch=4).encode([read([1, 2, 3, 4, 5]), None, read([6])])
    assert tokens.layout.lengths == (2, 0, 1)
    assert tokens.values.tolist() == [[1, 2, 3, 4], [5, 0, 0, 0], [6, 0, 0, 0]]


def test_a_position_is_the_mean_wavelength_of_the_samples_there_are():
    tokens = SeriesPatches(patch=2, origin=3000, scale=7000).encode([spectrum(5)])
    assert tokens.layout.positions.dtype == torch.float32
    expected = torch.tensor([[5.0], [25.0], [40.0]]) / 7000
    torch.testing.assert_close(tokens.layout.positions, expected)


def test_without_positions_samples_are_counted():
    assert SeriesPatches(patch=1).encode([read([3, 3])]).layout.positions.tolist() == [[0], [1]]


def test_several_channels_stand_side_by_side():
    tokens = SeriesPatches(patch=2, channels=2).encode([read([[1, 2], [3, 4], [5, 6]])])
    assert tokens.values.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]


def test_the_whole_series_or_each_patch_gets_mean_zero_and_deviation_one():
    series = read(np.random.default_rng(0).normal(5, 3, (12, 2)))
    whole = SeriesPatches(patch=4, channels=2, standardize="series").encode([series]).values
    by_channel = whole.reshape(12, 2)
    torch.testing.assert_close(by_channel.mean(dim=0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(by_channel.std(dim=0), torch.ones(2))
    cut = SeriesPatches(patch=4, channels=2, standardize="patch").encode([series]).values
    each = cut.reshape(3, 4, 2)
    torch.testing.assert_close(each.std(dim=1), torch.ones(3, 2))
    assert not torch.allclose(whole, cut)


@pytest.mark.parametrize("standardize", ["series", "patch"])
def test_a_flat_series_and_a_single_sample_become_zeros(standardize):
    series = [read([0.1] * 7), read([2.5])]
    values = SeriesPatches(patch=4, standardize=standardize).encode(series).values
    assert values.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1.0, float("nan"), 2.0, float("inf")], "2 of 4 values of the series are NaN or infinite"),
        ({"values": [1.0, 2.0], "positions": [0.0, float("nan")]}, "1 of 2 positions"),
        ({"values": [1.0, 2.0], "positions": [0.0]}, "2 samples need as many positions"),
        ({"positions": [0.0]}, "has no values"),
        (["a"], "no numbers"),
        (3.0, "shape"),
        ("missing.npy", "missing.npy: no such file"),
    ],
)
def test_what_is_no_series_is_reported(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        read(value)


def test_a_file_of_numbers_is_read_and_another_is_reported(tmp_path):
    np.save(tmp_path / "flux.npy", np.arange(3))
    assert read(tmp_path / "flux.npy").values.tolist() == [[0], [1], [2]]
    (tmp_path / "text.npy").write_text("flux")
    with pytest.raises(UnreadableError, match=r"text.npy is not a .npy file"):
        read(str(tmp_path / "text.npy"))


def test_a_tokenizer_refuses_series_it_was_not_made_for():
    with pytest.raises(UnreadableError, match="no samples"):
        SeriesPatches().check(read([]))
    with pytest.raises(UnreadableError, match="channels: 3"):
        SeriesPatches(channels=3).check(read([1.0]))
    for options in ({"patch": 0}, {"channels": 0}, {"scale": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SeriesPatches(**options)


def test_the_plugin_names_its_components():
    for name, kind in (("samples", "reader"), ("patches", "tokenizer"), ("transformer", "encoder")):
        assert installed().find(f"series.{name}", kind).load()
    assert read(spectrum(2)).__class__ is Series


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            {"values": [1], "positions": np.array(["2020-01-01"], "M8[ms]")},
            r"dates, datetime64\[ms\]",
        ),
        ({"values": np.array([1], "m8[s]")}, "dates, timedelta64"),
        ([1 + 2j], "complex"),
        ([1e300], "infinite"),
        ([10**400], "no numbers"),
        ("a\0b.npy", "is not a .npy file"),
        ("a" * 5000, "File name too long"),
    ],
)
def test_what_has_no_one_reading_is_refused(value, reason):
    with pytest.raises(UnreadableError, match=reason) as caught:
        read(value)
    assert len(str(caught.value)) < 400


def test_seconds_since_1970_keep_their_distances():
    start = 1_790_000_000.0
    series = read({"values": [1, 2, 3], "positions": [start, start + 0.5, start + 1]})
    tokenizer = SeriesPatches(patch=1, origin=start)
    tokenizer.check(series)
    assert tokenizer.encode([series]).layout.positions[:, 0].tolist() == [0, 0.5, 1]
    with pytest.raises(UnreadableError, match="from 1790000000 on fall together.*origin"):
        SeriesPatches(patch=1).check(series)


def test_a_header_that_claims_more_than_the_file_has_allocates_nothing(tmp_path):
    path = tmp_path / "claims.npy"
    np.save(path, np.zeros(10**5, np.float32))
    content = path.read_bytes().replace(b"(100000,)", b"(9" + b"0" * 12 + b",)", 1)
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="not a .npy file: its header"):
        read(path)


def test_every_file_a_record_has_opened_is_named_so_that_it_can_be_confined():
    assert read.paths_in("a.npy") == ["a.npy"]
    assert read.paths_in({"values": "a.npy", "positions": "b.npy"}) == ["a.npy", "b.npy"]
    assert read.paths_in({"values": [1.0], "positions": "b.npy"}) == ["b.npy"]
    assert read.paths_in({"values": [1.0], "positions": [0]}) == []
