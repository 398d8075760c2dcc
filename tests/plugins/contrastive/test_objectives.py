import math
from dataclasses import replace

import pytest
import torch

from polymodal import Batch, Tokens
from polymodal_contrastive import alignment
from polymodal_contrastive.infonce import InfoNCE
from polymodal_contrastive.matching import Matching, _whole, repaired
from polymodal_contrastive.pairs import _split, _united, content_hash, sample_keys
from polymodal_contrastive.siglip import SigLIP
from polymodal_fusion.single_stream import SingleStream

KINDS = [InfoNCE, SigLIP]


def three(toys, kind, specs=None, **options):
    specs = specs or dict.fromkeys(("image", "text", "sound"), toys.VALUES)
    streams = options.pop("streams", list(specs))
    return toys.model(specs, objective=lambda info: kind(info, streams=streams, **options))


def partners(toys, lengths_a, lengths_b):
    """Two streams whose samples share a mean, so that they can be matched."""
    a, b = toys.value_tokens(lengths_a, seed=1), toys.value_tokens(lengths_b, seed=2)
    mark = 3 * torch.randn(len(lengths_a), 4, generator=torch.Generator().manual_seed(3))
    return toys.batch(
        image=a.with_rows(a.values + mark[a.layout.sample]),
        text=b.with_rows(b.values + mark[b.layout.sample]),
    )


def two(toys, kind, **options):
    specs = {"image": toys.VALUES, "text": toys.VALUES}
    return three(toys, kind, specs, **options)


def test_a_pairs_rows_are_the_samples_that_have_both(toys):
    model = three(toys, InfoNCE, dim=5)
    batch = toys.batch(
        image=toys.value_tokens([2, 0, 1, 3], seed=1),
        text=toys.value_tokens([1, 2, 2, 0], seed=2),
        sound=toys.value_tokens([0, 1, 1, 0], seed=3),
    )
    found = toys.loss(model, batch)
    # image-text 0 and 2, image-sound 2, text-sound 1 and 2; a lone row costs nothing
    assert found.count == 5 == model.objective("objective").count(toys.step(model, batch))
    objective = model.objective("objective")
    step = toys.step(model, batch)
    vectors = {s: objective.project(s, step.encode(s)) for s in batch.streams}
    scale = math.exp(objective.log_scale.item())
    expected = 0.0
    for one, other, rows in (("image", "text", [0, 2]), ("text", "sound", [1, 2])):
        logits = scale * (vectors[one][rows] @ vectors[other][rows].T).double()
        for matrix in (logits, logits.T):
            expected += 0.5 * float((matrix.logsumexp(dim=1) - matrix.diagonal()).sum().detach())
    assert found.total.item() == pytest.approx(expected, rel=1e-5)


def test_one_direction_scores_the_first_stream_against_the_second(toys):
    batch = partners(toys, [1, 2, 3], [2, 1, 2])
    both = toys.loss(two(toys, InfoNCE), batch).total
    there = toys.loss(two(toys, InfoNCE, symmetric=False), batch).total
    back = toys.loss(two(toys, InfoNCE, symmetric=False, pairs=[("text", "image")]), batch).total
    torch.testing.assert_close(both, (there + back) / 2)
    assert there != back


def test_an_anchor_is_compared_with_each_other_stream(toys):
    model = three(toys, InfoNCE, anchor="text")
    assert model.objective("objective").pairs == [("text", "image"), ("text", "sound")]


@pytest.mark.parametrize("kind", KINDS)
def test_tiling_changes_nothing(toys, kind):
    batch = partners(toys, [1, 2, 3, 1], [2, 1, 2, 2])
    found = []
    for tile in (None, 3):
        model = two(toys, kind, tile=tile)
        loss = toys.loss(model, batch)
        loss.total.backward()
        found.append([loss.total, *(p.grad for p in model.parameters())])
    for whole, tiled in zip(*found, strict=True):
        torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", ["linear", "mlp", "none"])
def test_a_batch_without_pairs_costs_nothing_and_reaches_every_head(toys, kind, heads):
    model = two(toys, kind, heads=heads, same="text")
    batch = toys.batch(image=toys.value_tokens([2, 0, 1]), text=toys.value_tokens([0, 2, 0]))
    found = toys.loss(model, batch)
    assert found.count == 0
    assert found.total == 0
    assert toys.gradients_are_finite(model, found)
    assert all(p.grad is not None for p in model.objective("objective").parameters())


def test_no_samples_at_all_cost_nothing(toys):
    model = two(toys, InfoNCE)
    batch = toys.batch(image=toys.value_tokens([]), text=toys.value_tokens([]))
    assert toys.gradients_are_finite(model, toys.loss(model, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_bring_the_loss_down(toys, kind):
    batch = partners(toys, [2, 3, 1, 2, 2, 1], [1, 2, 2, 3, 1, 2])
    first, last = toys.train(two(toys, kind), batch, steps=40)
    assert last < 0.5 * first


def test_the_scale_is_bounded_and_can_come_back(toys):
    model = two(toys, InfoNCE, temperature=0.01)
    objective = model.objective("objective")
    batch = partners(toys, [1, 2], [2, 1])
    with torch.no_grad():
        objective.log_scale.fill_(9.0)
    objective.after_update(toys.step(model, batch))
    assert objective.log_scale.item() == pytest.approx(math.log(100))
    assert toys.loss(model, batch).metrics["temperature"][0] == pytest.approx(0.01)
    toys.loss(model, batch).total.backward()
    assert objective.log_scale.grad.abs() > 0  # a clamp in `forward` gives none at its bound
    assert objective.log_scale.shape == (1,)


def test_a_fixed_temperature_has_no_gradient(toys):
    objective = two(toys, InfoNCE, learn_temperature=False).objective("objective")
    assert not objective.log_scale.requires_grad


def test_projected_rows_are_normalised_and_of_one_size(toys):
    model = two(toys, InfoNCE, dim=5)
    encoded = toys.step(model, partners(toys, [1, 2], [2, 0])).encode("image")
    projected = model.objective("objective").project("image", encoded)
    assert projected.shape == (2, 5)
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(2))


def test_samples_equal_in_a_field_are_no_negatives(toys):
    tokens = partners(toys, [1, 1, 1], [1, 1, 1])
    batch = Batch(tokens.streams, 3, tokens.keys, fields={"label": ("cat", "cat", "dog")})
    model = two(toys, InfoNCE, same="label", symmetric=False)
    plain = toys.loss(two(toys, InfoNCE, symmetric=False), tokens).total
    assert toys.loss(model, batch).total < plain
    missing = Batch(tokens.streams, 3, tokens.keys, fields={"label": (None, None, None)})
    torch.testing.assert_close(toys.loss(model, missing).total, plain)


def test_keys_follow_the_tokens_of_a_stream_not_their_place(toys):
    model = toys.model({"text": toys.IDS})
    batch = toys.batch(text=toys.id_tokens([[3, 4], [4, 3], [3, 4], [], []]))
    keys = sample_keys(toys.step(model, batch), "text").tolist()
    assert keys[0] == keys[2]
    assert len(set(keys)) == 4


def test_keys_travel_as_floats_without_loss():
    keys = torch.tensor([0, 1, 2**62 + 12345, 2**63 - 1, 987654321987654321])
    assert torch.equal(_united(_split(keys).float()), keys)


def test_content_is_told_apart_by_values_too(toys):
    same = toys.value_tokens([2, 2])
    rows = same.values.clone()
    rows[2:] = rows[:2]
    first, second = content_hash(same.with_rows(rows)).tolist()
    assert first == second
    rows[3, 0] += 1e-6
    first, second = content_hash(same.with_rows(rows)).tolist()
    assert first != second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": ["image"]}, "2 or more"),
        ({"streams": ["image", "txt"]}, "txt"),
        ({"anchor": "sound"}, "anchor"),
        ({"anchor": "text", "pairs": [("text", "image")]}, "not both"),
        ({"tile": 0}, "tile"),
        ({"dim": 0}, "dim"),
        ({"temperature": 0.0}, "temperature"),
        ({"pairs": [("text", "text")]}, "different"),
    ],
)
def test_bad_options_are_refused(toys, options, message):
    with pytest.raises(ValueError, match=message):
        two(toys, InfoNCE, **options)


def test_an_unknown_name_for_same_is_refused(toys):
    model = two(toys, InfoNCE, same="lable")
    with pytest.raises(ValueError, match="lable"):
        toys.loss(model, partners(toys, [1, 1], [1, 1]))


def matching(toys, **options):
    return toys.model(
        {"image": toys.VALUES, "text": toys.VALUES},
        objective=lambda info: Matching(info, streams=["image", "text"], fusion="joint", **options),
        modules={"joint": lambda info: SingleStream(info, streams=["image", "text"], depth=1)},
    )


def test_repaired_rows_never_keep_their_own_partner():
    for shift in range(1, 4):
        wrong = repaired([2, 5, 7, 9], shift)
        assert [a for a, _ in wrong] == [2, 5, 7, 9]
        assert sorted(b for _, b in wrong) == [2, 5, 7, 9]
        assert all(a != b for a, b in wrong)
    assert repaired([3], 1) == []
    assert repaired([], 1) == []


def test_rows_with_one_key_are_not_swapped():
    keys = {0: "a", 1: "a", 2: "b"}
    wrong = repaired([0, 1, 2], 1, [keys[i] for i in range(3)])
    assert all(keys[a] != keys[b] for a, b in wrong)
    assert len(wrong) == 3
    assert repaired([0, 1], 1, ["a", "a"]) == []


@pytest.mark.parametrize(("negatives", "count"), [("second", 6), ("first", 6), ("both", 9)])
def test_matching_counts_true_and_wrong_pairs(toys, negatives, count):
    model = matching(toys, negatives=negatives)
    batch = partners(toys, [1, 2, 0, 2], [2, 1, 1, 1])
    found = toys.loss(model, batch)
    assert found.count == count == model.objective("objective").count(toys.step(model, batch))
    assert toys.gradients_are_finite(model, found)
    assert all(p.grad is not None for p in model.parameters())


def test_matching_learns_to_tell_pairs_apart(toys):
    batch = partners(toys, [2, 1, 2, 1, 2, 1], [1, 2, 1, 2, 1, 2])
    first, last = toys.train(matching(toys), batch, steps=60, rate=0.01)
    assert last < 0.6 * first


@pytest.mark.parametrize("lengths", [([], []), ([1, 0], [0, 1]), ([2], [1])])
def test_matching_without_rows_is_finite(toys, lengths):
    model = matching(toys)
    found = toys.loss(model, partners(toys, *lengths))
    assert toys.gradients_are_finite(model, found)
    assert found.count == len([1 for a, b in zip(*lengths, strict=True) if a and b])


def with_words(toys, count=4):
    """Images, and texts of two words between begin and end, the words numbered."""
    text = toys.id_tokens([[toys.BEGIN, 3 + s, 7, toys.END] for s in range(count)])
    word = torch.arange(4).repeat(count)
    text = Tokens(replace(text.layout, channels={"word": word}), ids=text.ids)
    partners = (*([[[0], [2]]] * (count - 1)), None)
    batch = toys.batch(text=text, image=toys.value_tokens([3] * count))
    return Batch(batch.streams, count, batch.keys, fields={"partners": partners})


def aligning(toys, **options):
    return toys.model(
        {"text": toys.IDS, "image": toys.VALUES},
        objective=lambda info: Matching(info, streams=["text", "image"], fusion="joint", **options),
        modules={
            "joint": lambda info: SingleStream(
                info, streams=["text", "image"], depth=1, joint="pair"
            )
        },
    )


def test_transport_pulls_true_pairs_together_and_pushes_wrong_ones_apart(toys):
    batch = with_words(toys)
    with_it, without = aligning(toys, transport=0.3), aligning(toys)
    found, plain = toys.loss(with_it, batch), toys.loss(without, batch)
    score, step = with_it.objective("objective").score, toys.step(with_it, batch)
    rows, wrong = with_it.objective("objective")._pairs(step)
    expected = plain.total.item()
    for pairs, sign in (([(row, row) for row in rows], 1), (wrong, -1)):
        for pair in pairs:
            fused = score(step, [pair])[1]
            expected += 0.3 * sign * alignment(fused["text"], fused["image"])[0].sum().item()
    assert found.total.item() == pytest.approx(expected, rel=1e-5)
    assert found.count == plain.count == 8
    assert toys.gradients_are_finite(with_it, found)


def test_transport_alone_can_take_the_loss_below_zero(toys):
    batch = with_words(toys)
    first, last = toys.train(aligning(toys, transport=2.0), batch, steps=60, rate=0.01)
    assert last < 0 < first


def test_evaluations_tell_how_often_a_words_strongest_partner_is_right(toys):
    model, batch = aligning(toys, partners="partners"), with_words(toys)
    assert "alignment" not in toys.loss(model, batch).metrics
    model.eval()
    found = toys.loss(model, batch)
    right, asked = found.metrics["alignment"]
    assert asked == 6  # two words of each sample whose partners are known
    assert 0 <= right <= asked
    assert model.objective("objective").fields() == ("partners",)


def test_all_segments_of_a_sample_are_aligned_together(toys):
    text = toys.value_tokens([1, 2, 1, 2])
    pages = Tokens(
        replace(text.layout, owner=torch.tensor([1, 0, 1, 1]), samples=2), values=text.values
    )
    batch = toys.batch(image=toys.value_tokens([2, 3]), text=pages)
    model = matching(toys, transport=0.5)
    assert toys.gradients_are_finite(model, toys.loss(model, batch))
    score, step = model.objective("objective").score, toys.step(model, batch)
    fused = score(step, [(0, 0), (1, 1)])[1]
    _, plan = alignment(fused["image"], _whole(fused["text"]))
    assert (plan > 0).sum(dim=(1, 2)).tolist() == [2 * 2, 3 * 4]


def test_a_joint_token_can_be_read_alone(toys):
    model, batch = aligning(toys, read=["pair"]), with_words(toys)
    assert model.objective("objective").head[0].in_features == 8
    assert toys.gradients_are_finite(model, toys.loss(model, batch))
    with pytest.raises(ValueError, match="'both'"):
        toys.loss(aligning(toys, read=["both"]), batch)


@pytest.mark.parametrize(
    "options", [{"transport": -0.1}, {"transport_beta": 0.0}, {"transport_iterations": 0}]
)
def test_bad_options_of_transport_are_refused(toys, options):
    with pytest.raises(ValueError, match=r"0 or more|above 0"):
        matching(toys, **options)


def test_partners_need_a_first_stream_with_words(toys):
    with pytest.raises(ValueError, match="'word'"):
        matching(toys, partners="partners")


def test_a_fusion_of_another_width_is_refused(toys):
    with pytest.raises(ValueError, match="fusion_width: 8"):
        matching(toys, fusion_width=6)


def test_what_same_names_is_declared(toys):
    field = two(toys, InfoNCE, same="label").objective("objective")
    assert field.fields() == ("label",)
    assert set(field.needs()) == {"image", "text"}
    stream = three(toys, SigLIP, streams=["image", "text"], same="sound").objective("objective")
    assert stream.fields() == ()
    assert set(stream.needs()) == {"image", "text", "sound"}
