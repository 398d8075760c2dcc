import pickle

import pytest
import torch

from polymodal.data.loader import PackedDataset, in_order
from polymodal.data.reading import StreamReading
from polymodal.data.splits import SplitSource
from polymodal.data.workers import load_batches
from polymodal.packed.batch import Batch, Skipped
from polymodal.packed.buffers import apart, moved, side_by_side
from polymodal.packed.layout import Layout
from polymodal.packed.tokens import Tokens

DTYPES = (torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.int64, torch.float32,
          torch.float64)  # fmt: skip


def tensors_of(batch):
    found = []
    batch.map(lambda tensor: (found.append(tensor), tensor)[1])
    return found


@pytest.fixture
def batch():
    """Everything a batch can hold: odd sizes, nothing at all, owners, channels, edges."""
    generator = torch.Generator().manual_seed(0)
    words = Layout.of(
        [3, 0, 4], owner=[0, 0, 2], samples=3, kinds=torch.arange(7),
        channels={"hidden": torch.arange(7) % 2 == 0, "time": torch.rand(7, 3).double()},
    )  # fmt: skip
    edges = torch.tensor([[0, 1], [1, 0], [2, 3]]).T  # not contiguous
    graph = Layout.of([2, 3, 0], edges=edges, edge_values=torch.rand(3, 1).bfloat16())
    streams = {
        "words": Tokens(words, ids=torch.arange(7)),
        "graph": Tokens(graph, values=torch.rand(5, 5, generator=generator)),
        "none": Tokens(Layout.empty(3, axes=2), values=torch.zeros(0, 7)),
    }
    return Batch(
        streams, 3, torch.arange(3), ("a", "b", "a"), {"label": (1, None, [torch.ones(2)])},
        (Skipped("a", 7, "torn"),),
    )  # fmt: skip


def check_same(one, other):
    for first, second in zip(tensors_of(one), tensors_of(other), strict=True):
        assert first.dtype == second.dtype and torch.equal(first, second)
    for name, tokens in one.streams.items():
        assert other.streams[name].layout.lengths == tokens.layout.lengths
        assert other.streams[name].layout.owners == tokens.layout.owners
        other.streams[name].layout.validate()


def check_one_buffer(batch):
    found = tensors_of(batch)
    assert len({tensor.untyped_storage().data_ptr() for tensor in found}) == 1
    assert all(tensor.is_contiguous() and tensor.data_ptr() % 64 == 0 for tensor in found)


def test_tensors_come_out_of_a_buffer_as_they_went_in():
    wanted = [torch.arange(count).to(dtype) for dtype in DTYPES for count in (0, 1, 63, 64, 65)]
    wanted += [torch.rand(3, 4).T, torch.zeros(2, 0, 5), torch.tensor(1.5)]
    buffer = side_by_side(wanted)
    for one, other in zip(wanted, apart(buffer, wanted), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
        assert other.data_ptr() % other.itemsize == 0


def test_what_lies_side_by_side_already_is_not_copied_again():
    tensors = [torch.arange(5), torch.rand(3)]
    buffer = side_by_side(tensors)
    there = apart(buffer, tensors)
    assert side_by_side(there).data_ptr() == buffer.data_ptr()
    for others in (there[:1], there[::-1], [there[0][1:], there[1]]):
        again = side_by_side(others)
        assert again.data_ptr() != buffer.data_ptr()
        for one, other in zip(others, apart(again, others), strict=True):
            assert torch.equal(one, other)


def test_a_batch_moves_in_one_copy(batch):
    moves = []

    def move(buffer):
        moves.append(buffer)
        return buffer.clone()

    found = moved(batch, move)
    assert len(moves) == 1 and moves[0].dtype == torch.uint8 and moves[0].dim() == 1
    check_same(batch, found)
    check_one_buffer(found)
    moved(found, move)
    assert moves[1].data_ptr() == tensors_of(found)[0].data_ptr()  # nothing laid out anew


def test_moving_to_where_a_batch_is_leaves_it_there(batch):
    assert batch.to("cpu") is batch
    tokens = batch.streams["words"]
    assert tokens.to("cpu") is tokens


def test_a_pickled_batch_is_one_buffer(batch):
    found = pickle.loads(pickle.dumps(batch))
    check_same(batch, found)
    assert found.sources == batch.sources and found.skipped == batch.skipped
    assert found.fields["label"][:2] == (1, None)
    assert torch.equal(found.fields["label"][2][0], torch.ones(2))


def test_a_data_worker_sends_one_buffer(sensor_module):
    reading = StreamReading("signal", sensor_module.Windows(), sensor_module.Signal())
    dataset = PackedDataset(
        [SplitSource("waves", sensor_module.Waves(samples=6))], {"signal": reading}
    )
    refs = list(in_order([6], 3))
    for one, ref in zip(load_batches(dataset, refs, workers=1), refs, strict=True):
        check_same(dataset[ref], one)
        check_one_buffer(one)


def test_a_batch_of_nothing_moves_too():
    nothing = Batch({"a": Tokens(Layout.of([]), ids=torch.zeros(0, dtype=torch.int64))}, 0,
                    torch.zeros(0, dtype=torch.int64))  # fmt: skip
    check_same(nothing, moved(nothing, torch.Tensor.clone))
    check_same(nothing, pickle.loads(pickle.dumps(nothing)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_pinned_batch_comes_to_a_gpu_in_one_copy(batch):
    pinned = batch.pin_memory()
    assert all(tensor.is_pinned() for tensor in tensors_of(pinned) if tensor.numel())
    check_one_buffer(pinned)
    pinned.to("cuda")  # CUDA is up
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        there = pinned.to("cuda", non_blocking=True)
        torch.cuda.synchronize()
    copies = [event for event in profile.events() if "Memcpy" in event.name]
    assert [("HtoD" in copy.name) for copy in copies] == [True]
    check_same(batch, there.to("cpu"))
