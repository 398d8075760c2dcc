import os
import signal
from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest
import torch

from polymodal import DataError, Reader, Tokenizer, UnreadableError, View
from polymodal.data.dealing import Hand
from polymodal.data.loader import PackedDataset, in_order, token_counts
from polymodal.data.reading import StreamReading
from polymodal.data.sampling import Mixture, batches
from polymodal.data.splits import SplitSource
from polymodal.data.workers import load_batches, worker_failure


@pytest.fixture
def parts(sensor_module):
    class Noisy(sensor_module.Windows):
        def encode(self, raws, *, generators=None):
            if generators is not None:
                raws = [
                    None if raw is None else raw + generator.normal(size=len(raw)).astype("f4")
                    for raw, generator in zip(raws, generators, strict=True)
                ]
            return super().encode(raws)

    reading = StreamReading("signal", Noisy(), sensor_module.Signal())
    source = SplitSource("waves", sensor_module.Waves(samples=20, broken=3))
    return reading, source


def first_batch(reading, source, *, seed=None, size=20, **options):
    dataset = PackedDataset([source], {"signal": reading}, seed=seed, **options)
    refs = next(batches(Mixture({"waves": 20}, weights={}, seed=0), batch_sizes=repeat(size)))
    return dataset[refs], refs


def test_an_unreadable_row_is_a_hole_with_a_reason(parts):
    batch, refs = first_batch(*parts, fields=("label",))
    hole = refs.index.tolist().index(3)
    assert batch.samples == 20
    assert [
        place for place, there in enumerate(batch.streams["signal"].layout.present) if not there
    ] == [hole]
    assert [(s.source, s.index, s.reason) for s in batch.skipped] == [
        ("waves", 3, "the cable came off")
    ]
    assert batch.fields["label"][hole] is None
    others = [int(i) % 2 for i in refs.index if i != 3]
    assert [v for v in batch.fields["label"] if v is not None] == others


def test_a_row_without_any_stream_is_skipped(parts):
    reading, source = parts
    renamed = SplitSource("waves", source.source, fields={"other": "signal"})
    batch, _ = first_batch(reading, renamed)
    assert len(batch.skipped) == 20
    assert "none of the fields signal" in batch.skipped[-1].reason
    assert batch.streams["signal"].layout.tokens == 0


def test_augmentation_follows_the_sample_not_its_place(parts):
    reading, source = parts
    whole, _ = first_batch(reading, source, seed=1)
    half, _ = first_batch(reading, source, seed=1, size=10)
    assert torch.equal(
        whole.streams["signal"].take(range(10)).values, half.streams["signal"].values
    )
    plain, _ = first_batch(reading, source)
    assert not torch.equal(whole.streams["signal"].values, plain.streams["signal"].values)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_with_any_number_of_workers(parts, workers):
    reading, source = parts
    dataset = PackedDataset([source], {"signal": reading}, seed=1)
    refs = list(in_order([20], 6))
    loaded = list(load_batches(dataset, refs, workers=workers))
    assert [batch.samples for batch in loaded] == [6, 6, 6, 2]
    direct = [dataset[ref] for ref in refs]
    for one, other in zip(loaded, direct, strict=True):
        assert torch.equal(one.streams["signal"].values, other.streams["signal"].values)
        assert torch.equal(one.keys, other.keys)


def test_keys_tell_samples_and_epochs_apart(parts):
    dataset = PackedDataset([parts[1]], {"signal": parts[0]})
    steps = batches(Mixture({"waves": 20}, weights={}, seed=0), batch_sizes=repeat(60))
    keys = dataset[next(steps)].keys
    assert len(keys.unique()) == 60


def reverse(raw, sample, generator):
    return raw[::-1].copy()


def test_a_view_is_tokenized_like_its_stream(parts):
    batch, _ = first_batch(*parts, views={"o/back": View("signal", reverse)})
    forth, back = batch.streams["signal"], batch.streams["o/back"]
    assert forth.layout.lengths == back.layout.lengths
    assert not torch.equal(forth.values, back.values)


def test_a_list_field_gives_segments_with_one_owner(sensor_module):
    class Lists(sensor_module.Waves):
        def row(self, index):
            return {"signal": [[1.0] * 8] * index if index else None}

    reading = StreamReading("signal", sensor_module.Windows(), sensor_module.Signal(), many=True)
    dataset = PackedDataset([SplitSource("lists", Lists(samples=3))], {"signal": reading})
    batch = dataset[next(in_order([3], 3))]
    layout = batch.streams["signal"].layout.validate()
    assert layout.owners == (1, 2, 2) and layout.present == (False, True, True)


def test_a_batch_says_which_samples_were_cut(sensor_module):
    class Short(sensor_module.Windows):
        def encode(self, raws, *, generators=None):
            tokens = super().encode(raws)
            return replace(tokens, cut=tuple(raw is not None and len(raw) > 8 for raw in raws))

    class Waves(sensor_module.Waves):
        def row(self, index):
            signal = [[1.0] * 8, [1.0] * 16]
            return {"signal": signal[index % 2], "many": [signal[0], signal[index // 2]]}

    streams = {
        "signal": StreamReading("signal", Short(), sensor_module.Signal()),
        "many": StreamReading("many", Short(), sensor_module.Signal(), many=True),
        "whole": StreamReading("signal", sensor_module.Windows(), sensor_module.Signal()),
    }
    source = SplitSource("waves", Waves(samples=4))
    for workers in (0, 1):
        dataset = PackedDataset([source], streams)
        batch = next(iter(load_batches(dataset, in_order([4], 4), workers=workers)))
        assert batch.cut == {
            "signal": (False, True, False, True),
            "many": (False, False, True, True),
        }


@pytest.mark.parametrize("value", [5, "one", {"a": 1}])
def test_a_list_field_that_holds_no_list_is_skipped_with_its_reason(sensor_module, value):
    class Lists(sensor_module.Waves):
        def row(self, index):
            return {"signal": value}

    reading = StreamReading("signal", sensor_module.Windows(), sensor_module.Signal(), many=True)
    dataset = PackedDataset([SplitSource("lists", Lists(samples=1))], {"signal": reading})
    (skipped,) = dataset[next(in_order([1], 1))].skipped
    assert "'signal' must hold a list, got" in skipped.reason


def test_a_null_lacks_its_stream_alone(sensor_module):
    class Nulls(sensor_module.Waves):
        def row(self, index):
            return {"signal": None, "other": [1.0] * 8, "list": [None, [1.0] * 4]}

    tokenizer, reader = sensor_module.Windows(), sensor_module.Signal()
    readings = {
        "signal": StreamReading("signal", tokenizer, reader),
        "other": StreamReading("other", tokenizer, reader),
        "list": StreamReading("list", tokenizer, reader, many=True),
    }
    dataset = PackedDataset([SplitSource("nulls", Nulls(samples=1))], readings)
    batch = dataset[next(in_order([1], 1))]
    assert not batch.skipped
    lengths = {name: tokens.layout.lengths for name, tokens in batch.streams.items()}
    assert lengths == {"signal": (0,), "other": (2,), "list": (0, 1)}


def test_token_counts_are_those_of_the_batch(parts):
    reading, source = parts
    dataset = PackedDataset([source], {"signal": reading})
    batch = dataset[next(in_order([20], 20))]
    counts = token_counts(dataset, 0, batch_size=7)
    assert counts.tolist() == list(batch.streams["signal"].layout.lengths)
    assert isinstance(counts, np.ndarray)


@pytest.fixture
def shrinking(sensor_module):
    class Shrinking(sensor_module.Windows):
        """Cuts a random half of a signal, as soon as it is read or later."""

        def __init__(self):
            super().__init__()
            self.log = []

        def shrink(self, raw, *, generator=None):
            self.log.append("shrink")
            start = 0 if generator is None else int(generator.integers(len(raw) // 2))
            return tuple(raw[start : start + len(raw) // 2])

        def encode(self, raws, *, generators=None):
            draws = [None] * len(raws) if generators is None else generators
            small = [
                raw if raw is None or isinstance(raw, tuple) else self.shrink(raw, generator=draw)
                for raw, draw in zip(raws, draws, strict=True)
            ]
            noise = [0 if draw is None else draw.normal() for draw in draws]
            made = [
                None if raw is None else np.array(raw, dtype="f4") + add
                for raw, add in zip(small, noise, strict=True)
            ]
            return super().encode(made)

    class Logged(sensor_module.Signal):
        def __init__(self, log):
            super().__init__()
            self.log = log

        def __call__(self, value):
            self.log.append("read")
            return super().__call__(value)

    tokenizer = Shrinking()
    reading = StreamReading("signal", tokenizer, Logged(tokenizer.log))
    return reading, SplitSource("waves", sensor_module.Waves(samples=20, broken=3))


def test_each_value_is_shrunk_before_the_next_is_read_to_the_same_tokens(shrinking, monkeypatch):
    reading, source = shrinking
    views = {"compare/one": View("signal"), "compare/two": View("signal", reverse)}
    for seed in (None, 1):
        reading.tokenizer.log.clear()
        small, _ = first_batch(reading, source, seed=seed, views=views)
        assert reading.tokenizer.log == ["read", "shrink", "shrink", "shrink"] * 19
        with monkeypatch.context() as patch:
            patch.setattr(Tokenizer, "shrink", type(reading.tokenizer).shrink)
            late, _ = first_batch(reading, source, seed=seed, views=views)
        assert reading.tokenizer.log[-57:] == ["shrink"] * 57
        for name in ("signal", *views):
            assert torch.equal(small.streams[name].values, late.streams[name].values)


def test_views_of_dealt_samples_are_as_many_and_the_same_when_shrunk_late(shrinking):
    reading, source = shrinking
    views = {"first/one": View("signal"), "second/two": View("signal", reverse)}
    hands = {name: Hand(1.0, ("signal",)) for name in ("first", "second")}
    every, _ = first_batch(reading, source, seed=1, views=views)
    dealt, _ = first_batch(reading, source, seed=1, views=views, groups={"g": hands})
    for name in views:
        own = dealt.dealt[name.partition("/")[0]]
        assert dealt.streams[name].layout.present == own
        kept = [place for place, mine in enumerate(own) if mine]
        assert 0 < len(kept) < 19
        assert torch.equal(
            dealt.streams[name].take(kept).values, every.streams[name].take(kept).values
        )


def test_a_value_that_can_not_be_shrunk_is_skipped(shrinking, monkeypatch):
    reading, source = shrinking

    def refuse(self, raw, *, generator=None):
        raise UnreadableError("the film broke off")

    monkeypatch.setattr(type(reading.tokenizer), "shrink", refuse)
    batch, _ = first_batch(reading, source, seed=1)
    assert sum(skip.reason == "the film broke off" for skip in batch.skipped) == 19
    assert batch.streams["signal"].layout.tokens == 0


class Reads(Reader):
    """A reader that is a function."""

    def __init__(self, read):
        self.read = read

    def __call__(self, value):
        return self.read(value)


def test_whatever_a_reader_raises_is_a_fault_of_the_record(parts):
    reading, source = parts

    def read(value):
        if len(value) == lengths[5]:
            raise KeyError("no such chunk")
        return np.asarray(value, dtype=np.float32)

    lengths = [len(row["signal"]) if i != 3 else 0 for i, row in enumerate(rows_of(source))]
    batch, refs = first_batch(StreamReading("signal", reading.tokenizer, Reads(read)), source)
    found = {each.index: each for each in batch.skipped}
    assert set(found) == {3} | {i for i, n in enumerate(lengths) if n == lengths[5]}
    assert found[5].reason == "KeyError: 'no such chunk'"
    assert (found[5].stream, found[5].source) == ("signal", "waves")
    assert batch.streams["signal"].layout.present[refs.index.tolist().index(3)] is False


def rows_of(source):
    return [{"signal": []} if i == 3 else source.source.row(i) for i in range(20)]


def test_a_record_that_only_encoding_breaks_on_leaves_the_others(parts):
    reading, source = parts
    bad = np.asarray(source.source.row(7)["signal"], dtype=np.float32)

    class Encoding(type(reading.tokenizer)):
        def encode(self, raws, *, generators=None):
            if any(raw is not None and np.array_equal(raw, bad) for raw in raws):
                raise ZeroDivisionError("division by zero")
            return super().encode(raws)

    batch, refs = first_batch(StreamReading("signal", Encoding(), reading.reader), source)
    whole, _ = first_batch(reading, source)
    assert {each.index: each.reason for each in batch.skipped} == {
        3: "the cable came off", 7: "ZeroDivisionError: division by zero"
    }  # fmt: skip
    hole = refs.index.tolist().index(7)
    kept = [place for place in range(20) if place != hole]
    assert torch.equal(
        batch.streams["signal"].take(kept).values, whole.streams["signal"].take(kept).values
    )


def test_a_row_that_a_source_breaks_on_leaves_the_others(parts, sensor_module):
    class Torn(sensor_module.Waves):
        def row(self, index):
            if index == 4:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
            return super().row(index)

    batch, _ = first_batch(parts[0], SplitSource("waves", Torn(samples=20)))
    (skipped,) = batch.skipped
    assert skipped.index == 4 and skipped.reason.startswith("UnicodeDecodeError: ")


@pytest.mark.parametrize("workers", [0, 1])
def test_too_few_file_handles_are_no_fault_of_a_record(parts, workers):
    reading, source = parts

    def read(value):
        raise OSError(24, "Too many open files")

    dataset = PackedDataset(
        [source], {"signal": StreamReading("signal", reading.tokenizer, Reads(read))}
    )
    with pytest.raises(DataError, match=r"too many open files: raise the limit \(ulimit") as caught:
        list(load_batches(dataset, list(in_order([20], 20)), workers=workers))
    assert "\n" not in str(caught.value)


def test_a_worker_that_dies_is_one_line(parts):
    reading, source = parts

    def read(value):
        os.kill(os.getpid(), signal.SIGKILL)

    dataset = PackedDataset(
        [source], {"signal": StreamReading("signal", reading.tokenizer, Reads(read))}
    )
    with pytest.raises((DataError, RuntimeError)) as caught:
        list(load_batches(dataset, list(in_order([20], 20)), workers=1))
    # torch may raise it from a signal handler, anywhere: `Training.run` asks as well.
    told = worker_failure(caught.value) or caught.value
    assert str(told).startswith("a data worker died (") and "\n" not in str(told)


def test_a_source_that_cannot_be_opened_is_named(sensor_module):
    class Gone(sensor_module.Waves):
        def __len__(self):
            raise EOFError("no more bytes")

        def columns(self):
            raise ValueError("line 1:\nbad")

    source = SplitSource("waves", Gone())
    with pytest.raises(DataError, match=r"data.sources.waves can't be read: ValueError: line 1: b"):
        source.fields()
    with pytest.raises(DataError, match="data.sources.waves can't be read: EOFError: no more"):
        source.record()
