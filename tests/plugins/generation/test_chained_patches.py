import pytest
import torch
import torch.nn.functional as F

from polymodal import Batch, Fusion, Layout
from polymodal_fusion.causal_chain import CausalChain
from polymodal_fusion.single_stream import SingleStream
from polymodal_generation.chained_patches import ChainedPatches, preceded

SIZES = {"image": 4, "sed": 3}


def values(toys, lengths, features, seed=0, **layout):
    where = Layout.of(lengths, **layout)
    return toys.value_tokens(lengths, seed=seed, features=features, layout=where)


def batch(toys, image, sed):
    return toys.batch(image=values(toys, image, 4), sed=values(toys, sed, 3, 1))


def built(toys, streams=("image", "sed"), fusion=CausalChain, chained=None, **options):
    specs = {name: type(toys.VALUES)(features=size) for name, size in SIZES.items()}
    return toys.model(
        specs,
        objective=lambda info: ChainedPatches(
            info, fusion="chain", streams=list(streams), **options
        ),
        modules={
            "chain": lambda info: fusion(info, streams=list(chained or streams), depth=2, heads=2)
        },
        causal=True,
    )


def predictions(model, found):
    """What the heads gave in a call of `found`, by stream."""
    task = model.objective("objective")
    out = {}
    hooks = [
        head.register_forward_hook(lambda m, x, o, name=name: out.update({name: o.detach()}))
        for name, head in zip(task.streams, task.heads, strict=True)
    ]
    loss = found()
    for hook in hooks:
        hook.remove()
    return out, loss


def test_all_but_the_first_token_of_a_sample_are_predicted():
    layouts = [Layout.of([5, 0, 1, 0]), Layout.of([3, 2, 0, 0])]
    (first, of_first), (second, of_second) = preceded(layouts)
    assert first.tolist() == [1, 2, 3, 4]
    assert of_first.tolist() == [4, 0, 0, 0]
    assert second.tolist() == [0, 1, 2, 4]
    assert of_second.tolist() == [3, 1, 0, 0]
    owned = Layout.of([0, 2, 1], owner=[0, 0, 0], samples=1)
    assert preceded([owned])[0][0].tolist() == [1, 2]


def test_five_patches_and_three_are_four_and_three_predictions(toys):
    model, data = built(toys), batch(toys, [5], [3])
    out, loss = predictions(model, lambda: toys.loss(model, data))
    assert (out["image"].shape, out["sed"].shape) == ((4, 4), (3, 3))
    image, sed = (data.streams[name].values for name in ("image", "sed"))
    expected = (F.huber_loss(out["image"], image[1:]) + F.huber_loss(out["sed"], sed)) / 2
    torch.testing.assert_close(loss.total.detach(), expected)
    assert loss.count == 1
    total, count = loss.metrics["sed"]
    torch.testing.assert_close(total / count, F.huber_loss(out["sed"], sed))


def test_a_stream_alone_costs_the_huber_loss_of_the_shifted_sequence(toys):
    model, data = built(toys, streams=["image"]), batch(toys, [6, 6], [1, 1])
    out, loss = predictions(model, lambda: toys.loss(model, data))
    image = data.streams["image"].values.reshape(2, 6, 4)
    expected = F.huber_loss(out["image"].reshape(2, 5, 4), image[:, 1:])
    torch.testing.assert_close(toys.mean(loss).detach(), expected)


def test_the_last_token_of_one_stream_predicts_the_first_of_the_next(toys):
    model = built(toys)
    seen = []
    model.objective("objective").heads[1].register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    data = batch(toys, [3], [2])
    toys.loss(model, data)
    step = toys.step(model, data)
    fused = model.module("chain")({name: step.encode(name) for name in SIZES})
    torch.testing.assert_close(seen[0][0], fused["image"].vectors[-1])
    torch.testing.assert_close(seen[0][1], fused["sed"].vectors[0])


def test_a_patch_changes_later_predictions_alone(toys):
    model, data = built(toys), batch(toys, [5], [3])
    other = data.streams["sed"].values.clone()
    other[1] += 2
    moved = toys.batch(image=data.streams["image"], sed=data.streams["sed"].with_rows(other))
    before, _ = predictions(model, lambda: toys.loss(model, data))
    after, _ = predictions(model, lambda: toys.loss(model, moved))
    assert torch.equal(before["image"], after["image"])
    assert torch.equal(before["sed"][:2], after["sed"][:2])
    assert not torch.allclose(before["sed"][2], after["sed"][2])


def test_the_other_order_crosses_the_other_boundary(toys):
    model = built(toys, streams=["sed", "image"])
    out, _ = predictions(model, lambda: toys.loss(model, batch(toys, [5], [3])))
    assert (len(out["sed"]), len(out["image"])) == (2, 5)


def test_weights_scale_a_stream_s_mean_and_lengths_do_not_weigh(toys):
    data = batch(toys, [9], [2])
    even, weighted = built(toys), built(toys, weights={"sed": 0.5})
    loss = toys.loss(even, data)
    image, sed = (total / count for total, count in (loss.metrics["image"], loss.metrics["sed"]))
    torch.testing.assert_close(loss.total.detach(), (image + sed) / 2)
    torch.testing.assert_close(toys.loss(weighted, data).total.detach(), (image + sed / 2) / 2)


def test_a_missing_stream_is_left_out_and_the_loss_is_the_mean_over_those_present(toys):
    model = built(toys)
    whole = toys.loss(model, batch(toys, [4, 0, 4, 1, 0], [3, 3, 0, 0, 0]))
    assert whole.count == 3
    assert whole.count == model.objective("objective").count(
        toys.step(model, batch(toys, [4, 0, 4, 1, 0], [3, 3, 0, 0, 0]))
    )
    image, sed = values(toys, [4, 0, 4, 1, 0], 4), values(toys, [3, 3, 0, 0, 0], 3, 1)
    parts = [
        toys.loss(model, toys.batch(image=image.take([s]), sed=sed.take([s]))) for s in range(5)
    ]
    torch.testing.assert_close(whole.total, torch.stack([part.total for part in parts]).sum())
    only = parts[2]
    total, count = only.metrics["image"]
    torch.testing.assert_close(only.total.detach(), total / count)
    assert only.metrics["sed"][1] == 0


@pytest.mark.parametrize("lengths", [[], [0], [1], [0, 1]])
def test_nothing_to_predict_costs_nothing_and_has_gradients(toys, lengths):
    model = built(toys)
    loss = toys.loss(model, batch(toys, lengths, [0] * len(lengths)))
    assert (loss.total.item(), loss.count) == (0, 0)
    assert toys.gradients_are_finite(model, loss)


def test_a_few_steps_learn_what_crosses_the_boundary(toys):
    image = values(toys, [2] * 16, 4)
    sed = values(toys, [1] * 16, 3, 1).with_rows(image.values[1::2, :3])
    model = built(toys, weights={"image": 0.0})
    first, last = toys.train(model, toys.batch(image=image, sed=sed), steps=120)
    assert last < 0.2 * first


def test_samples_are_represented_by_their_pooled_vectors_in_the_sequence(toys):
    model = built(toys).eval()
    data = batch(toys, [4, 2], [3, 0])
    step = toys.step(model, data)
    task = model.objective("objective")
    fused = model.module("chain")({name: step.encode(name) for name in SIZES})
    assert task.beside("sed") == ("image",)
    torch.testing.assert_close(task.represent(step, "sed"), fused["sed"].pooled)
    image, sed = data.streams["image"], data.streams["sed"]
    found = model.encode("sed", sed, objective="objective", beside={"image": image})
    torch.testing.assert_close(found, fused["sed"].pooled)
    alone = model.encode("sed", sed, objective="objective")
    none = Batch(
        {"sed": sed, "image": values(toys, [0, 0], 4)}, 2, torch.zeros(2, dtype=torch.int64)
    )
    torch.testing.assert_close(alone, task.represent(toys.step(model, none), "sed"))
    assert not torch.allclose(alone[0], found[0])


def test_fusions_that_show_the_answer_or_chain_other_streams_are_refused(toys):
    with pytest.raises(ValueError, match="must be a causal fusion"):
        built(toys, fusion=SingleStream)
    with pytest.raises(ValueError, match=r"\['image', 'sed'\] in this order"):
        built(toys, chained=["sed", "image"])
    assert not Fusion.causal


def test_bad_options_are_refused(toys):
    for options, reason in (
        ({"weights": {"sad": 1.0}}, "weights"),
        ({"weights": {"sed": -1.0}}, "weights"),
        ({"delta": 0.0}, "delta"),
        ({"streams": ["image", "image"]}, "different"),
    ):
        with pytest.raises(ValueError, match=reason):
            built(toys, **options)
