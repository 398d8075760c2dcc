from dataclasses import replace

import pytest
import torch
from torch import nn

from polymodal import Encoded, Layout, PretrainingModel, TokenSpec, hidden_counts
from polymodal.model.model import stream_info
from polymodal_masking.cross_view import CrossDecoder


def crossing(toys, spec=None, *, stream="one", reference="other", **options):
    """A model whose two views share an encoder."""
    spec = spec or toys.PLANE
    torch.manual_seed(0)
    encoder = toys.Mixing(spec)
    info = {name: stream_info(spec, encoder) for name in ("one", "other")}
    torch.manual_seed(1)
    made = toys.named("masking.cross_view", stream=stream, reference=reference, **options)
    objective = made(info)
    streams = {"one": "vit", "other": "vit"}
    return PretrainingModel(
        streams, {"vit": encoder}, dict.fromkeys(streams, spec), objectives={"objective": objective}
    )


def views(toys, *sides, seed=0):
    return toys.batch(
        one=toys.plane_tokens(sides, seed=seed), other=toys.plane_tokens(sides, seed=seed + 50)
    )


def prediction(model, toys, batch):
    """What the objective predicts, and its loss."""
    found = []
    hook = model.objective("objective").exit.register_forward_hook(lambda m, x, y: found.append(y))
    loss = toys.loss(model, batch)
    hook.remove()
    return found[0], loss


def chosen(model, toys, batch, number=0):
    objective = model.objective("objective")
    return objective._choose(toys.step(model, batch, number=number), "one", None)


def test_176_of_196_patches_are_hidden_in_every_sample_and_each_as_often(toys):
    spec = TokenSpec(features=4, axes=2, extent=(14, 14))
    model = crossing(toys, spec)
    batch = views(toys, *[14] * 20)
    drawn = torch.zeros(196)
    for number in range(100):
        choice = chosen(model, toys, batch, number)
        assert choice.hidden_lengths == (176,) * 20
        drawn += torch.bincount(choice.hidden % 196, minlength=196)
    assert (drawn / 2000 - 176 / 196).abs().max() < 0.03


def test_the_number_hidden_is_the_integer_part_that_the_papers_code_takes():
    lengths = range(2, 3000)
    for ratio in (0.75, 0.9):
        expected = [int(ratio * length) for length in lengths]
        assert hidden_counts(lengths, ratio, rounding="down", at_least=1, leave=1) == expected


@pytest.mark.parametrize(("features", "expected"), [(4, 0.75), (768, 0.9987)])
@pytest.mark.parametrize("score", ["hidden", "all"])
def test_a_zero_prediction_of_normalised_targets_costs_one_less_a_value(
    toys, features, expected, score
):
    spec = TokenSpec(features=features, axes=2, extent=(4, 4))
    model = crossing(toys, spec, ratio=0.75, score=score)
    nn.init.zeros_(model.objective("objective").exit.weight)
    nn.init.zeros_(model.objective("objective").exit.bias)
    layout = toys.plane_tokens([4, 4]).layout
    tokens = toys.value_tokens(layout.lengths, features=features, layout=layout)
    found = toys.loss(model, toys.batch(one=tokens, other=tokens))
    assert toys.mean(found).item() == pytest.approx(expected, abs=1e-4)
    assert found.count == (32 if score == "all" else 24)


def test_the_loss_is_that_of_a_masked_autoencoder_on_the_same_prediction(toys):
    model = crossing(toys, ratio=0.75)
    batch = views(toys, 4, 4)
    predicted, loss = prediction(model, toys, batch)
    hidden = chosen(model, toys, batch).hidden
    # As MAE's code: a rectangle of all patches, and a mask.
    target = batch.streams["one"].values.double().reshape(2, 16, 4)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    full, mask = torch.zeros(32, 4, dtype=torch.float64), torch.zeros(32, dtype=torch.float64)
    full[hidden], mask[hidden] = predicted.detach().double(), 1
    each = (full.reshape(2, 16, 4) - target).square().mean(-1)
    expected = (each * mask.reshape(2, 16)).sum() / mask.sum()
    torch.testing.assert_close(toys.mean(loss).double(), expected, rtol=1e-5, atol=1e-6)


def test_a_flat_patch_has_target_zero(toys):
    model = crossing(toys, ratio=0.5)
    flat = toys.plane_tokens([3])
    flat = flat.with_rows(torch.full_like(flat.values, 7.0))
    predicted, loss = prediction(model, toys, toys.batch(one=flat, other=flat))
    torch.testing.assert_close(loss.total, predicted.square().mean(dim=1).sum())


def test_the_encoder_sees_what_is_left_of_one_view_and_all_of_the_other(toys):
    model = crossing(toys, ratio=0.75)
    seen = []
    model.encoder("one").register_forward_pre_hook(lambda m, x: seen.append(x[0].layout.lengths))
    toys.loss(model, views(toys, 4, 2))
    assert seen == [(4, 1), (16, 4)]


def test_both_views_share_one_encoder(toys):
    model = crossing(toys)
    assert model.encoder("one") is model.encoder("other")
    own = sum(p.numel() for p in toys.Mixing(toys.PLANE).parameters())
    objective = sum(p.numel() for p in model.objective("objective").parameters())
    assert sum(p.numel() for p in model.parameters()) == own + objective


def test_hidden_values_do_not_reach_the_prediction(toys):
    model = crossing(toys, ratio=0.75)
    batch = views(toys, 4, 3)
    one = batch.streams["one"]
    choice = chosen(model, toys, batch)

    def changed(rows):
        values = one.values.clone()
        values[rows] += 5
        other = replace(batch, streams={**batch.streams, "one": one.with_rows(values)})
        return prediction(model, toys, other)[0]

    before = prediction(model, toys, batch)[0]
    assert torch.equal(changed(choice.hidden), before)
    assert not torch.allclose(changed(choice.visible), before)


def test_the_loss_reaches_the_other_view_through_cross_attention_alone(toys):
    model = crossing(toys, ratio=0.75)
    batch = views(toys, 4, 3)
    values = batch.streams["other"].values.requires_grad_()
    other = batch.streams["other"].with_rows(values)
    batch = replace(batch, streams={**batch.streams, "other": other})
    (gradient,) = torch.autograd.grad(toys.loss(model, batch).total, values)
    assert gradient.abs().amax(dim=1).min() > 0
    for block in model.objective("objective").decoder.transformer.blocks:
        nn.init.zeros_(block.cross_attention.out.weight)
    (gradient,) = torch.autograd.grad(toys.loss(model, batch).total, values)
    assert not gradient.any()


def test_each_sample_reads_its_own_other_view(toys):
    model = crossing(toys, ratio=0.75)
    batch = views(toys, 4, 4, 4)
    other = batch.streams["other"]
    swapped = replace(batch, streams={**batch.streams, "other": other.select([1, 0, 2])})
    before, after = (prediction(model, toys, each)[0].split(12) for each in (batch, swapped))
    assert not torch.allclose(before[0], after[0], atol=1e-3)
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    torch.testing.assert_close(before[2], after[2])


def test_samples_in_another_order_give_their_predictions_in_that_order(toys):
    model = crossing(toys, ratio=0.75)
    batch = views(toys, 4, 4)
    streams = {name: tokens.select([1, 0]) for name, tokens in batch.streams.items()}
    turned = replace(batch, streams=streams, keys=batch.keys.flip(0))
    first, second = prediction(model, toys, batch)[0].split(12)
    torch.testing.assert_close(prediction(model, toys, turned)[0], torch.cat([second, first]))


def test_samples_without_one_of_the_views_cost_nothing(toys):
    model = crossing(toys, ratio=0.75)
    one, other = toys.plane_tokens([4, 0, 2, 4]), toys.plane_tokens([4, 4, 0, 4], seed=1)
    batch = toys.batch(one=one, other=other)
    found = toys.loss(model, batch)
    both = toys.batch(one=one.take([0, 3]), other=other.take([0, 3]))
    alone = toys.loss(model, replace(both, keys=batch.keys[[0, 3]]))
    assert found.count == 24 == model.objective("objective").count(toys.step(model, batch))
    torch.testing.assert_close(found.total, alone.total)


def test_several_references_of_a_sample_are_read_together(toys):
    model = crossing(toys, ratio=0.75)
    one, other = toys.plane_tokens([4, 4]), toys.plane_tokens([4, 4, 4], seed=1)
    two = replace(other.layout, owner=torch.tensor([0, 1, 0]), samples=2)
    batch = toys.batch(one=one, other=other.with_rows(other.values, two))
    before, _ = prediction(model, toys, batch)
    values = other.values.clone()
    values[32:] += 1  # the second reference of the first sample
    after, _ = prediction(model, toys, toys.batch(one=one, other=other.with_rows(values, two)))
    assert not torch.allclose(before[:12], after[:12])
    torch.testing.assert_close(before[12:], after[12:])


def test_symmetric_completes_each_view_from_the_other(toys):
    batch = views(toys, 4, 3)
    both = toys.loss(crossing(toys, symmetric=True), batch)
    ways = [("one", "other"), ("other", "one")]
    apart = [toys.loss(crossing(toys, stream=s, reference=r), batch) for s, r in ways]
    torch.testing.assert_close(both.total, apart[0].total + apart[1].total)
    assert both.count == apart[0].count + apart[1].count == 2 * (14 + 8)


def decoder(positions="sinusoidal", depth=2):
    torch.manual_seed(0)
    return CrossDecoder(12, width=16, depth=depth, heads=2, axes=2, positions=positions)


def test_the_decoder_is_torchs_own_with_positions_and_a_norm_of_what_is_read():
    made = decoder().double()
    layout = Layout.of([5, 5], torch.randint(0, 9, (10, 2)))
    read = Layout.of([7, 7], torch.randint(0, 9, (14, 2)))
    view, reference = torch.randn(10, 16).double(), torch.randn(14, 12).double()
    memory = made.entry(reference) + made.positions(read.positions)
    memory = made.reference_norm(memory).reshape(2, 7, 16)
    rows = (view + made.positions(layout.positions)).reshape(2, 5, 16)
    for block in made.transformer.blocks:
        layer = nn.TransformerDecoderLayer(
            16, 2, 64, dropout=0, activation="gelu", layer_norm_eps=1e-6, norm_first=True,
            batch_first=True, dtype=torch.float64,
        )  # fmt: skip
        cross = block.cross_attention
        layer.load_state_dict(
            {
                **_named("self_attn.in_proj_", block.attention.qkv),
                **_named("self_attn.out_proj.", block.attention.out),
                "multihead_attn.in_proj_weight": torch.cat(
                    [cross.query.weight, cross.key_value.weight]
                ),
                "multihead_attn.in_proj_bias": torch.cat([cross.query.bias, cross.key_value.bias]),
                **_named("multihead_attn.out_proj.", cross.out),
                **_named("linear1.", block.mlp.up),
                **_named("linear2.", block.mlp.down),
                **_named("norm1.", block.attention_norm),
                **_named("norm2.", block.cross_norm),
                **_named("norm3.", block.mlp_norm),
            }
        )
        rows = layer(rows, memory)
    expected = made.transformer.norm(rows).reshape(10, 16)
    found = made(view, layout, Encoded.mean_pooled(read, reference)).vectors
    torch.testing.assert_close(found, expected)


def _named(prefix, module):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def test_with_rotary_positions_only_the_offset_between_places_matters():
    places = torch.randint(0, 9, (6, 2))
    view, reference = torch.randn(6, 16), torch.randn(6, 12)

    def decoded(made, of_view, of_reference):
        read = Encoded.mean_pooled(Layout.of([6], places + of_reference), reference)
        return made(view, Layout.of([6], places + of_view), read).vectors

    shift = torch.tensor([3, 5])
    for positions, moves in (("rotary", False), ("sinusoidal", True)):
        made = decoder(positions)
        before = decoded(made, 0, 0)
        assert torch.allclose(decoded(made, shift, shift), before, atol=1e-5) is not moves
        assert not torch.allclose(decoded(made, 0, shift), before, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"decoder_positions": "rotary"}, {"symmetric": True}])
def test_a_few_steps_bring_the_loss_down(toys, options):
    model = crossing(toys, ratio=0.75, decoder_heads=2, **options)
    tokens = toys.plane_tokens([4] * 8)
    first, last = toys.train(model, toys.batch(one=tokens, other=tokens), steps=40, rate=0.01)
    assert last < 0.9 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "ratio must lie between 0 and 1"),
        ({"reference": "one"}, "another stream than 'one'"),
        ({"reference": "othr"}, "Did you mean 'other'"),
    ],
)
def test_bad_options_are_refused(toys, options, message):
    with pytest.raises(ValueError, match=message):
        crossing(toys, **options)


def test_views_that_are_not_alike_are_refused(toys):
    def build(one, other, **options):
        specs = {"one": one, "other": other}
        return toys.model(
            specs,
            objective=toys.named(
                "masking.cross_view", **{"stream": "one", "reference": "other", **options}
            ),
        )

    with pytest.raises(ValueError, match="reference must be a stream with vectors and positions"):
        build(toys.PLANE, toys.VALUES)
    with pytest.raises(ValueError, match="'one' needs tokens with values"):
        build(toys.IDS, toys.VALUES)
    with pytest.raises(ValueError, match="'other' needs tokens with values"):
        build(toys.VALUES, toys.IDS, symmetric=True)
    build(toys.VALUES, toys.IDS)  # a reference may be anything that can be read
