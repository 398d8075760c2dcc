import torch

from polymodal import Encoded, Layout
from polymodal_pooling import Attention, First, Mean


def test_attention_pooling_weighs_tokens_as_a_loop_does():
    torch.manual_seed(0)
    pool = Attention()
    pool.bind(4)
    layout = Layout.of([2, 3, 1], owner=[0, 0, 2], samples=3)
    encoded = Encoded.mean_pooled(layout, torch.randn(6, 4))
    found = pool.pool(encoded)
    for sample, rows in ((0, slice(0, 5)), (2, slice(5, 6))):
        part = encoded.vectors[rows]
        weights = pool.context(torch.tanh(pool.hidden(part))).softmax(dim=0)
        torch.testing.assert_close(found[sample], (weights * part).sum(dim=0))
    assert not found[1].any()


def test_the_mean_and_the_first_of_a_sample_count_all_its_segments():
    layout = Layout.of([0, 2, 1, 0], owner=[0, 0, 0, 2], samples=3)
    encoded = Encoded.mean_pooled(layout, torch.tensor([[1.0], [3.0], [8.0]]))
    assert Mean().pool(encoded).flatten().tolist() == [4, 0, 0]
    assert First().pool(encoded).flatten().tolist() == [1, 0, 0]
    none = Encoded.mean_pooled(Layout.of([0, 0]), torch.zeros(0, 1))
    assert First().pool(none).flatten().tolist() == [0, 0]
