import math
from dataclasses import replace

import pytest
import torch

from polymodal import Tokens, TokenSpec
from polymodal_fusion.single_stream import SingleStream
from polymodal_hiding import choose_each
from polymodal_masking import MaskedTokens
from polymodal_masking.losses import class_divergence, class_target
from polymodal_masking.regions import MaskedRegions
from polymodal_vision.region_encoder import RegionEncoder

REGIONS = TokenSpec(features=4, axes=7, structure=("classes",))


def regions(toys, lengths, *, seed=0):
    """Regions with boxes and soft labels of two classes and a background."""
    tokens = toys.value_tokens(lengths, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    boxes = torch.rand(sum(lengths), 7, generator=generator)
    soft = torch.rand(sum(lengths), 3, generator=generator).softmax(dim=1)
    return Tokens(
        replace(tokens.layout, positions=boxes, channels={"classes": soft}), values=tokens.values
    )


def model(toys, kind=MaskedRegions, *, given=True, encoder=True, **options):
    """A model over regions and text, fused or each alone."""
    names = ["regions", "text"]
    if kind is MaskedTokens:
        names = names[::-1]
    joint = {"fusion": "joint", "given": [names[1]]} if given else {}
    torch.manual_seed(0)
    return toys.model(
        {"regions": REGIONS, "text": toys.IDS},
        objective=lambda info: kind(info, stream=names[0], **joint, **options),
        modules={"joint": lambda info: SingleStream(info, streams=sorted(info), depth=1)},
        encoders={"regions": RegionEncoder(REGIONS, width=8)} if encoder else None,
    )


def batch(toys, lengths=(5, 3, 0, 4), texts=((5, 6, 7), (), (8, 9), (4, 5))):
    return toys.batch(regions=regions(toys, list(lengths)), text=toys.id_tokens(list(texts)))


def seen(model, step, stream="regions"):
    """The tokens that reach a stream's encoder in a forward pass."""
    found = []
    hook = model.encoder(stream).register_forward_pre_hook(lambda m, x: found.append(x[0]))
    loss = model.objective("objective")(step)
    hook.remove()
    return found[0], loss


@pytest.mark.parametrize(("regions_of", "expected"), [(10, 1.6969), (36, 5.4029)])
def test_each_is_hidden_by_itself_and_at_least_one(toys, regions_of, expected):
    tokens = toys.value_tokens([regions_of] * 4000)
    noise = torch.rand(tokens.layout.tokens, generator=torch.Generator().manual_seed(0))
    counts = choose_each(noise, tokens.layout, 0.15).hidden_lengths
    assert min(counts) == 1
    assert sum(counts) / 4000 == pytest.approx(expected, rel=0.02)


def test_the_lone_hidden_one_is_any_equally_likely(toys):
    tokens = toys.value_tokens([4] * 4000)
    noise = torch.rand(tokens.layout.tokens, generator=torch.Generator().manual_seed(0))
    hidden = choose_each(noise, tokens.layout, 1e-9).hidden
    assert torch.bincount(hidden % 4) / 4000 == pytest.approx(torch.full((4,), 0.25), abs=0.03)


def test_the_background_is_never_the_target():
    assert class_target(torch.tensor([[0.7, 0.1, 0.2], [0.9, 0.06, 0.04]])).tolist() == [2, 1]


def test_the_divergence_is_that_of_the_code_or_of_the_paper():
    logits, soft = torch.zeros(1, 3), torch.tensor([[0.5, 0.25, 0.25]])
    assert class_divergence(logits, soft).item() == pytest.approx(0.0196305, abs=1e-6)
    assert class_divergence(logits, soft, "sum").item() == pytest.approx(0.0588915, abs=1e-6)
    sure = torch.tensor([[0.0, 1.0, 0.0]])  # 0 log 0 is 0
    assert class_divergence(logits, sure, "sum").item() == pytest.approx(math.log(3))


def test_hidden_regions_keep_their_box_and_the_text_stays_whole(toys):
    built, given = model(toys), batch(toys)
    step = toys.step(built, given)
    tokens, loss = seen(built, step)
    whole = given.streams["regions"].take([0, 3])  # those with both streams
    mask = built.objective("objective").mask
    hidden = (tokens.values == mask).all(dim=1)
    assert int(hidden.sum()) == loss.count == built.objective("objective").count(step) > 0
    assert torch.equal(tokens.values[~hidden], whole.values[~hidden])
    assert torch.equal(tokens.layout.positions, whole.layout.positions)
    text, _ = seen(built, toys.step(built, given), "text")
    assert torch.equal(text.ids, given.streams["text"].ids)


def test_regions_stay_whole_where_words_are_hidden(toys):
    built, given = model(toys, MaskedTokens), batch(toys)
    tokens, _ = seen(built, toys.step(built, given))
    assert torch.equal(tokens.values, given.streams["regions"].values)


@pytest.mark.parametrize(("kind", "stream"), [(MaskedTokens, "regions"), (MaskedRegions, "text")])
def test_in_joint_masking_some_of_the_other_stream_is_left_out(toys, kind, stream):
    built = model(toys, kind, leave_out=0.4)
    given = batch(toys, [5] * 40, [(3, 4, 5, 6, 7)] * 40)
    tokens, _ = seen(built, toys.step(built, given), stream)
    assert tokens.layout.tokens / given.streams[stream].layout.tokens == pytest.approx(0.6, abs=0.1)
    again, _ = seen(built, toys.step(built, given), stream)
    assert torch.equal(tokens.rows, again.rows)
    other, _ = seen(built, toys.step(built, given, number=1), stream)
    assert tokens.layout.lengths != other.layout.lengths


def test_features_are_predicted_by_the_projection_transposed(toys):
    built, given = model(toys, given=False), batch(toys)
    step = toys.step(built, given)
    tokens, loss = seen(built, step)
    objective, encoder = built.objective("objective"), built.encoder("regions")
    rows = (tokens.values == objective.mask).all(dim=1)
    with torch.no_grad():
        torch.nn.init.normal_(objective.bias)
        vectors = objective.transform(encoder(tokens).vectors[rows])
        predicted = vectors @ encoder.stem.features.weight + objective.bias
        error = (predicted - given.streams["regions"].values[rows]).double().square().mean(dim=1)
        assert objective(step).total.item() == pytest.approx(error.sum().item(), rel=1e-5)
    assert loss.count == len(error)


@pytest.mark.parametrize("target", ["class", "distribution"])
def test_classes_are_scored_against_the_soft_labels(toys, target):
    built, given = model(toys, given=False, target=target, classes=3), batch(toys)
    step = toys.step(built, given)
    tokens, loss = seen(built, step)
    objective = built.objective("objective")
    rows = (tokens.values == objective.mask).all(dim=1)
    logits = objective.own(objective.transform(built.encoder("regions")(tokens).vectors[rows]))
    log_share = logits.detach().double().log_softmax(dim=1)
    soft = given.streams["regions"].layout.channels["classes"][rows].double()
    best = soft[:, 1:].argmax(dim=1) + 1
    if target == "class":
        expected = -log_share[torch.arange(len(best)), best].sum()
    else:
        expected = (soft * (soft.log() - log_share)).sum() / 3
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    right = (log_share.argmax(dim=1) == best).sum()
    assert loss.metrics["accuracy"] == (right, len(best))


@pytest.mark.parametrize("target", ["features", "class", "distribution"])
@pytest.mark.parametrize(
    ("lengths", "texts"),
    [([], []), ([0], [(5,)]), ([1], [(5,)]), ([2, 0], [(), (4,)])],
)
def test_few_or_no_regions_are_finite_and_reach_every_part(toys, target, lengths, texts):
    built = model(toys, target=target, classes=3)
    found = toys.loss(built, batch(toys, lengths, texts))
    assert found.count == sum(length for length, text in zip(lengths, texts, strict=True) if text)
    assert toys.gradients_are_finite(built, found)
    assert all(p.grad is not None for p in built.objective("objective").parameters())


@pytest.mark.parametrize("target", ["features", "class", "distribution"])
def test_a_few_steps_bring_the_loss_down(toys, target):
    built, given = model(toys, target=target, classes=3), batch(toys)
    tokens = given.streams["regions"]  # all alike
    soft = torch.tensor([[0.0, 0.9, 0.1]]).repeat(12, 1)
    tokens = Tokens(replace(tokens.layout, channels={"classes": soft}), values=torch.ones(12, 4))
    given = replace(given, streams={**given.streams, "regions": tokens})
    first, last = toys.train(built, given, steps=60)
    assert last < 0.5 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "ratio"),
        ({"target": "class"}, "needs classes"),
        ({"leave_out": 1.0}, "leave_out"),
        ({"leave_out": 0.1, "given": False}, "needs given"),
    ],
)
def test_bad_options_are_refused(toys, options, message):
    with pytest.raises(ValueError, match=message):
        model(toys, **options)


def test_soft_labels_of_another_size_are_refused(toys):
    with pytest.raises(ValueError, match="classes is 5"):
        toys.loss(model(toys, target="class", classes=5), batch(toys))


def test_a_stream_without_soft_labels_is_refused(toys):
    with pytest.raises(ValueError, match="'classes'"):
        toys.model(
            {"image": toys.VALUES},
            objective=lambda i: MaskedRegions(i, stream="image", target="class", classes=3),
        )


def test_an_encoder_without_a_projection_needs_a_head_of_its_own(toys):
    with pytest.raises(ValueError, match="head: own"):
        toys.loss(model(toys, encoder=False), batch(toys))
    assert toys.loss(model(toys, encoder=False, head="own"), batch(toys)).count > 0
