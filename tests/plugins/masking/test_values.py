from dataclasses import replace

import pytest
import torch

from polymodal_fusion.single_stream import SingleStream

KINDS = ["masking.mae", "masking.simmim"]


def masked(toys, kind, spec=None, **options):
    return toys.model(
        {"image": spec or toys.PLANE}, objective=toys.named(kind, stream="image", **options)
    )


def seen(model, step):
    """The tokens that reach the encoder in a forward pass."""
    found = []
    hook = model.encoder("image").register_forward_pre_hook(
        lambda module, inputs: found.append(inputs[0])
    )
    loss = model.objective("objective")(step)
    hook.remove()
    return found[0], loss


def pictures(toys, count=12, side=3):
    """Images of one colour each, with a slope, so that visible tokens tell the hidden ones."""
    tokens = toys.plane_tokens([side] * count)
    colour = torch.randn(count, 4, generator=torch.Generator().manual_seed(3))
    place = tokens.layout.positions.sum(dim=1, keepdim=True) / 4
    return tokens.with_rows(colour[tokens.layout.segment] + place)


def test_only_visible_tokens_reach_the_encoder(toys):
    model = masked(toys, "masking.mae", ratio=0.75)
    tokens = toys.plane_tokens([4, 2, 0])
    shown, loss = seen(model, toys.step(model, toys.batch(image=tokens)))
    assert shown.layout.lengths == (4, 1, 0)
    assert loss.count == 15
    rows = {tuple(row) for row in tokens.values.tolist()}
    assert all(tuple(row) in rows for row in shown.values.tolist())
    # positions went along
    for value, position in zip(shown.values, shown.layout.positions, strict=True):
        old = (tokens.values == value).all(dim=1).nonzero()[0, 0]
        assert torch.equal(tokens.layout.positions[old], position)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_values_change_the_target_alone(toys, kind):
    model = masked(toys, kind, ratio=0.5, normalize_targets=False)
    objective = model.objective("objective")
    tokens = toys.plane_tokens([3, 2])
    step = toys.step(model, toys.batch(image=tokens))
    choice = (
        objective._choose(step) if kind == "masking.mae" else step.shared(objective).hidden.choice
    )
    values = tokens.values.clone()
    values[choice.hidden] += 5
    predictions = []
    part = objective.decoder if kind == "masking.mae" else objective.head.linear
    part.register_forward_hook(lambda m, x, out: predictions.append(out.detach()))
    one = objective(step)
    two = objective(toys.step(model, toys.batch(image=tokens.with_rows(values))))
    assert torch.equal(*predictions)
    assert one.total != two.total
    values = tokens.values.clone()
    values[choice.visible] += 5
    objective(toys.step(model, toys.batch(image=tokens.with_rows(values))))
    assert not torch.equal(predictions[0], predictions[2])


def test_mae_costs_what_its_prediction_says(toys):
    model = masked(toys, "masking.mae", ratio=0.5)
    objective = model.objective("objective")
    torch.nn.init.zeros_(objective.decoder.exit.weight)
    torch.nn.init.zeros_(objective.decoder.exit.bias)
    found = toys.loss(model, toys.batch(image=toys.plane_tokens([4, 3])))
    # zero against a normalised target of n values: (n - 1) / n
    assert toys.mean(found).item() == pytest.approx(0.75, abs=1e-4)
    assert found.count == 8 + 5


def test_simmim_scores_the_mean_absolute_error_of_hidden_tokens(toys):
    model = masked(toys, "masking.simmim", ratio=0.5)
    objective = model.objective("objective")
    torch.nn.init.zeros_(objective.head.linear.weight)
    torch.nn.init.zeros_(objective.head.linear.bias)
    tokens = toys.plane_tokens([3])
    shown, found = seen(model, toys.step(model, toys.batch(image=tokens)))
    hidden = (shown.values == objective.replace.vector).all(dim=1)
    assert hidden.sum() == found.count == 5  # 4.5, rounded up
    expected = tokens.values[hidden].double().abs().mean(dim=1).sum()
    assert found.total.item() == pytest.approx(float(expected), rel=1e-5)
    assert torch.equal(shown.values[~hidden], tokens.values[~hidden])


def test_the_mask_token_gets_a_gradient_and_the_hidden_values_none(toys):
    model = masked(toys, "masking.simmim", ratio=0.5)
    values = toys.plane_tokens([3]).values.requires_grad_()
    tokens = toys.plane_tokens([3]).with_rows(values)
    found = toys.loss(model, toys.batch(image=tokens))
    objective = model.objective("objective")
    grads = torch.autograd.grad(found.total, [objective.replace.vector, values])
    assert grads[0].abs().sum() > 0
    assert grads[1].abs().sum() > 0  # by way of the target and of the visible tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["random", "block", "tube"])
def test_a_few_steps_bring_the_loss_down(toys, kind, shape):
    options = {"normalize_targets": False, "shape": shape, "ratio": 0.5}
    model = masked(toys, kind, **options)
    first, last = toys.train(model, toys.batch(image=pictures(toys)), steps=40, rate=0.01)
    assert last < 0.7 * first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sides", [[], [0], [1], [1, 0, 3], [2]])
@pytest.mark.parametrize("shape", ["random", "block", "tube"])
def test_small_and_empty_images_are_finite(toys, kind, sides, shape):
    model = masked(toys, kind, shape=shape)
    batch = toys.batch(image=toys.plane_tokens(sides))
    found = toys.loss(model, batch)
    assert toys.gradients_are_finite(model, found)
    assert found.count == model.objective("objective").count(toys.step(model, batch))
    assert all(p.grad is not None for p in model.parameters())


def test_no_sample_leaks_into_another(toys):
    model = masked(toys, "masking.mae", ratio=0.5)
    tokens = toys.plane_tokens([3, 2])
    batch = toys.batch(image=tokens)
    alone = replace(toys.batch(image=tokens.select([1])), keys=batch.keys[1:])
    apart = replace(toys.batch(image=tokens.select([0])), keys=batch.keys[:1])
    parts = toys.loss(model, alone).total + toys.loss(model, apart).total
    torch.testing.assert_close(toys.loss(model, batch).total, parts)


def test_a_share_of_the_hidden_tokens_may_be_decoded(toys):
    model = masked(toys, "masking.mae", ratio=0.75, decode=0.5)
    batch = toys.batch(image=toys.plane_tokens([4, 2, 0]))
    rows = []
    model.objective("objective").decoder.transformer.register_forward_pre_hook(
        lambda m, inputs: rows.append(inputs[0].shape[0])
    )
    found = toys.loss(model, batch)
    assert found.count == 6 + 2 == model.objective("objective").count(toys.step(model, batch))
    assert rows == [4 + 1 + 8]
    assert toys.gradients_are_finite(model, found)


def test_the_decoder_knows_where_hidden_tokens_are(toys):
    model = masked(toys, "masking.mae", ratio=0.75)
    objective, out = model.objective("objective"), []
    objective.decoder.register_forward_hook(lambda m, x, o: out.append(o.detach()))
    toys.loss(model, toys.batch(image=toys.plane_tokens([3])))
    assert (out[0][0] - out[0][1]).abs().max() > 1e-4


def test_edges_follow_the_visible_tokens(toys):
    model = toys.model(
        {"image": toys.GRAPH},
        objective=toys.named("masking.mae", stream="image", ratio=0.5),
        encoders={"image": toys.Convolving(toys.GRAPH)},
    )
    batch = toys.batch(image=toys.graph_tokens([4, 2], [(0, 1), (1, 2), (2, 3), (4, 5)]))
    shown, found = seen(model, toys.step(model, batch))
    assert shown.layout.validate().edges.shape[1] <= 2
    assert toys.gradients_are_finite(model, found)


def test_simmim_may_be_given_other_streams(toys):
    model = toys.model(
        {"image": toys.PLANE, "text": toys.IDS},
        objective=toys.named("masking.simmim", stream="image", fusion="joint", given=["text"]),
        modules={"joint": lambda info: SingleStream(info, streams=["image", "text"], depth=1)},
    )
    batch = toys.batch(image=toys.plane_tokens([2, 2, 2]), text=toys.id_tokens([[3], [], [4, 5]]))
    found = toys.loss(model, batch)
    assert found.count == 2 * 2
    assert toys.gradients_are_finite(model, found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [({"ratio": 1.0}, "ratio"), ({"shape": "tube"}, "two axes")],
)
def test_bad_options_are_refused(toys, kind, options, message):
    with pytest.raises(ValueError, match=message):
        masked(toys, kind, spec=toys.VALUES, **options)


def test_streams_of_ids_are_refused(toys):
    for kind in KINDS:
        with pytest.raises(ValueError, match="needs tokens with values"):
            masked(toys, kind, spec=toys.IDS)
