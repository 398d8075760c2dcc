import math

import pytest
import torch

from polymodal import Layout
from polymodal_generation import followed
from polymodal_generation.next_patch import NextPatch, regression_loss
from polymodal_generation.next_token import NextToken


def speaking(toys, causal=True, **options):
    return toys.model(
        {"text": toys.IDS},
        objective=lambda info: NextToken(info, stream="text", **options),
        causal=causal,
    )


def drawing(toys, causal=True, **options):
    return toys.model(
        {"image": toys.VALUES},
        objective=lambda info: NextPatch(info, stream="image", **options),
        causal=causal,
    )


def test_every_token_but_the_last_of_a_segment_is_followed():
    assert followed(Layout.of([3, 0, 1, 2])).tolist() == [0, 1, 4]
    assert followed(Layout.of([])).tolist() == []


def test_the_loss_is_the_summed_cross_entropy_of_the_next_ids(toys):
    model = speaking(toys)
    tokens = toys.id_tokens([[1, 3, 4], [5], [6, 7], []])
    found = toys.loss(model, toys.batch(text=tokens))
    encoder = model.encoder("text")
    scores = encoder.unembed(encoder(tokens).vectors).detach().double().log_softmax(dim=1)
    expected = -float(scores[0, 3] + scores[1, 4] + scores[4, 7])
    assert found.total.item() == pytest.approx(expected, rel=1e-5)
    assert found.count == 3
    bits, count = found.metrics["bits"]
    assert (bits / count).item() == pytest.approx(expected / 3 / math.log(2), rel=1e-5)


def test_an_unsure_own_head_starts_at_the_log_of_the_vocabulary(toys):
    model = speaking(toys, head="own")
    own = model.objective("objective").own
    torch.nn.init.zeros_(own.weight)
    torch.nn.init.zeros_(own.bias)
    found = toys.loss(model, toys.batch(text=toys.id_tokens([[3, 4, 5]])))
    assert toys.mean(found).item() == pytest.approx(math.log(12), rel=1e-5)


def test_what_comes_later_can_not_be_seen(toys):
    model = drawing(toys)
    out = []
    model.objective("objective").head.register_forward_hook(lambda m, x, o: out.append(o.detach()))
    tokens = toys.value_tokens([5, 3])
    changed = tokens.values.clone()
    changed[3] += 7  # the fourth of the first segment
    toys.loss(model, toys.batch(image=tokens))
    toys.loss(model, toys.batch(image=tokens.with_rows(changed)))
    # rows 0 to 2 predict tokens 1 to 3; row 3 sees the change; the second segment does not
    assert torch.equal(out[0][:3], out[1][:3])
    assert not torch.equal(out[0][3], out[1][3])
    torch.testing.assert_close(out[0][4:], out[1][4:])


@pytest.mark.parametrize("make", [speaking, drawing])
def test_an_encoder_that_sees_the_answer_is_refused(toys, make):
    with pytest.raises(ValueError, match="needs a causal encoder"):
        make(toys, causal=False)


def test_a_few_steps_learn_a_counting_sequence(toys):
    text = toys.id_tokens([[start + i for i in range(5)] for start in (3, 4, 5, 6, 7)])
    model = speaking(toys)
    batch = toys.batch(text=text)
    first, last = toys.train(model, batch)
    assert last < 0.2 * first
    correct, count = toys.loss(model, batch).metrics["accuracy"]
    assert correct == count == 20


def test_label_smoothing_is_left_out_of_the_bits(toys):
    batch = toys.batch(text=toys.id_tokens([[3, 4, 5]]))
    plain, smooth = speaking(toys), speaking(toys, smoothing=0.3)
    one, two = toys.loss(plain, batch), toys.loss(smooth, batch)
    assert one.total != two.total
    torch.testing.assert_close(one.metrics["bits"][0], two.metrics["bits"][0])


def test_distances_of_known_rows():
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.5, 3.0]])
    assert regression_loss(a, b, distance="huber").item() == pytest.approx((0.125 + 2.5) / 2)
    assert regression_loss(a, b, distance="mse").item() == pytest.approx((0.25 + 9) / 2)
    assert regression_loss(a, b, distance="l1").item() == pytest.approx(1.75)


def test_copying_is_what_repeating_the_token_costs(toys):
    tokens = toys.value_tokens([3, 2])
    found = toys.loss(drawing(toys, distance="mse"), toys.batch(image=tokens))
    v = tokens.values.double()
    expected = sum(float((v[i] - v[i + 1]).square().mean()) for i in (0, 1, 3))
    total, count = found.metrics["copying"]
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert count == found.count == 3


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_few_steps_learn_to_continue_and_beat_copying(toys, head):
    tokens = toys.value_tokens([6] * 8)
    start = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    step = torch.tensor([1.0, -1.0, 0.5, 0.0])
    values = start[tokens.layout.segment] + tokens.layout.within[:, None] * step
    batch = toys.batch(image=tokens.with_rows(values))
    model = drawing(toys, head=head, distance="mse")
    first, last = toys.train(model, batch)
    assert last < 0.2 * first
    total, count = toys.loss(model, batch).metrics["copying"]
    assert last < total / count


@pytest.mark.parametrize("lengths", [[], [0], [1], [1, 0, 2]])
@pytest.mark.parametrize("normalize", [True, False])
def test_short_and_empty_segments_are_finite(toys, lengths, normalize):
    model = drawing(toys, normalize=normalize)
    batch = toys.batch(image=toys.value_tokens(lengths))
    found = toys.loss(model, batch)
    assert found.count == model.objective("objective").count(toys.step(model, batch))
    assert toys.gradients_are_finite(model, found)
    text = toys.id_tokens([[3] * length for length in lengths])
    for head in ("tied", "own"):
        model = speaking(toys, head=head)
        found = toys.loss(model, toys.batch(text=text))
        assert toys.gradients_are_finite(model, found)


def test_bad_streams_and_options_are_refused(toys):
    with pytest.raises(ValueError, match="needs tokens with ids"):
        NextToken(toys.info(image=8), stream="image")
    with pytest.raises(ValueError, match="imag"):
        NextPatch(toys.info(image=8), stream="imag")
    with pytest.raises(ValueError, match="smoothing"):
        speaking(toys, smoothing=1.0)
    with pytest.raises(ValueError, match="delta"):
        drawing(toys, delta=0.0)
