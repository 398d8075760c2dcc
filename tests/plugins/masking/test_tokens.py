import math
from dataclasses import replace

import pytest
import torch

from polymodal import Tokens, TokenSpec
from polymodal_fusion.single_stream import SingleStream
from polymodal_heads import Own
from polymodal_masking import MaskedTokens
from polymodal_replacing import corrupted
from polymodal_targets import Ids


def masked(toys, **options):
    return toys.model(
        {"text": toys.IDS}, objective=toys.named("masking.tokens", stream="text", **options)
    )


def sentences(toys, count=12, length=8, seed=0):
    """Sentences that repeat one word, between begin and end, with the words numbered."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(3, 12, (count,), generator=generator).tolist()
    tokens = toys.id_tokens([[toys.BEGIN, *[w] * length, toys.END] for w in words])
    word = torch.arange(length + 2).div(2, rounding_mode="floor").repeat(count)
    return Tokens(replace(tokens.layout, channels={"word": word}), ids=tokens.ids)


def seen_ids(model, step):
    """The ids that reach the encoder in a forward pass."""
    found = []
    hook = model.encoder("text").register_forward_pre_hook(
        lambda module, inputs: found.append(inputs[0].ids)
    )
    model.objective("objective")(step)
    hook.remove()
    return found[0]


def test_corruption_replaces_by_share():
    ids = torch.tensor([5, 6, 7, 8])
    new = corrupted(
        ids,
        torch.tensor([0, 1, 3]),
        torch.tensor([0.1, 0.85, 0.95]),
        torch.tensor([0.0, 0.999, 0.0]),
        mask=0,
        ordinary=torch.tensor([3, 4, 9]),
        replace=0.8,
        random=0.1,
    )
    assert new.tolist() == [0, 9, 7, 8]
    assert ids.tolist() == [5, 6, 7, 8]


def test_of_hidden_tokens_eight_tenths_are_masked_one_random_one_kept(toys):
    model = masked(toys, ratio=0.5)
    batch = toys.batch(text=sentences(toys, count=200))
    step = toys.step(model, batch)
    new, old = seen_ids(model, step), batch.streams["text"].ids
    hidden = int(model.objective("objective").count(step))
    assert hidden == 800  # four of eight words: the two specials are not in the share
    assert abs((new == toys.MASK).sum().item() / hidden - 0.8) < 0.04
    # one of nine random ids is the old one
    assert abs(((new != old) & (new != toys.MASK)).sum().item() / hidden - 0.1 * 8 / 9) < 0.03


@pytest.mark.parametrize("units", ["token", "word", "span"])
def test_specials_are_never_hidden_and_the_count_is_what_is_scored(toys, units):
    model = masked(toys, ratio=0.4, units=units, replace=1.0, random=0.0)
    batch = toys.batch(text=sentences(toys))
    step = toys.step(model, batch, number=3)
    new, old = seen_ids(model, step), batch.streams["text"].ids
    changed = new != old
    assert not (changed & (old <= toys.END)).any()
    assert (new[changed] == toys.MASK).all()
    found = model.objective("objective")(step)
    assert int(found.count) == int(changed.sum())
    assert int(model.objective("objective").count(step)) == int(found.count)


def test_words_are_hidden_whole(toys):
    model = masked(toys, ratio=0.4, units="word", replace=1.0, random=0.0)
    tokens = sentences(toys)
    new = seen_ids(model, toys.step(model, toys.batch(text=tokens)))
    hidden = (new == toys.MASK).reshape(12, 10)[:, 2:8].reshape(12, 3, 2)
    assert (hidden[..., 0] == hidden[..., 1]).all()
    assert hidden.any()


def test_the_loss_is_the_summed_cross_entropy_of_the_hidden_tokens(toys):
    model = masked(toys, ratio=0.3, replace=1.0, random=0.0)
    batch = toys.batch(text=sentences(toys, count=3))
    step = toys.step(model, batch)
    new, objective = seen_ids(model, step), model.objective("objective")
    encoder = model.encoder("text")
    vectors = objective.head.transform(encoder(batch.streams["text"].with_rows(new)).vectors)
    scores = (vectors @ encoder.table.weight.T).detach().double().log_softmax(dim=1)
    old = batch.streams["text"].ids
    expected = -sum(float(scores[row, old[row]]) for row in (new != old).nonzero()[:, 0])
    assert objective(step).total.item() == pytest.approx(expected, rel=1e-5)


def test_the_hidden_ids_can_not_be_seen(toys):
    model = masked(toys, ratio=0.3, replace=1.0, random=0.0)
    tokens = sentences(toys, count=4)
    hidden = seen_ids(model, toys.step(model, toys.batch(text=tokens))) == toys.MASK
    other = tokens.with_rows(torch.where(hidden, 3 + (tokens.ids - 2) % 9, tokens.ids))
    assert (other.ids[hidden] != tokens.ids[hidden]).all()
    first = seen_ids(model, toys.step(model, toys.batch(text=tokens)))
    assert torch.equal(first, seen_ids(model, toys.step(model, toys.batch(text=other))))


def test_only_hidden_rows_reach_the_head(toys):
    model = masked(toys, ratio=0.2)
    objective, rows = model.objective("objective"), []
    objective.head.transform.register_forward_pre_hook(lambda m, x: rows.append(x[0].shape[0]))
    toys.loss(model, toys.batch(text=sentences(toys, count=3)))
    assert rows == [6]


def test_the_same_sample_is_masked_alike_in_any_batch(toys):
    model = masked(toys, ratio=0.3, replace=1.0, random=0.0)
    whole = toys.batch(text=sentences(toys, count=5))
    first = seen_ids(model, toys.step(model, whole)).reshape(5, 10)
    order = [3, 1]
    part = toys.batch(text=whole.streams["text"].select(order))
    part = replace(part, keys=whole.keys[order])
    assert torch.equal(seen_ids(model, toys.step(model, part)).reshape(2, 10), first[order])
    again = seen_ids(model, toys.step(model, whole, number=1)).reshape(5, 10)
    assert not torch.equal(again, first)


@pytest.mark.parametrize("head", ["tied", "own"])
def test_a_few_steps_bring_the_loss_down(toys, head):
    model = masked(toys, ratio=0.3, head=head)
    first, last = toys.train(model, toys.batch(text=sentences(toys, count=24)))
    assert first > 1.5
    assert last < 0.6 * first


def test_a_small_head_starts_near_the_log_of_the_vocabulary(toys):
    model = masked(toys, head="own")
    torch.nn.init.normal_(model.objective("objective").head.own.weight, std=0.02)
    found = toys.loss(model, toys.batch(text=sentences(toys, count=50)))
    assert toys.mean(found).item() == pytest.approx(math.log(12), abs=0.05)


@pytest.mark.parametrize("segments", [[], [[]], [[1, 2]], [[1, 5, 2], []], [[5]]])
@pytest.mark.parametrize("units", ["token", "word", "span"])
def test_short_and_empty_texts_are_finite(toys, segments, units):
    tokens = toys.id_tokens(segments)
    word = tokens.layout.within
    tokens = Tokens(replace(tokens.layout, channels={"word": word}), ids=tokens.ids)
    model = masked(toys, units=units)
    found = toys.loss(model, toys.batch(text=tokens))
    content = sum(i > toys.END for s in segments for i in s)
    assert int(found.count) == content
    assert toys.gradients_are_finite(model, found)
    assert all(p.grad is not None for p in model.objective("objective").parameters())


def joint(toys, **options):
    return toys.model(
        {"text": toys.IDS, "image": toys.VALUES},
        objective=toys.named(
            "masking.tokens", stream="text", fusion="joint", given=["image"], **options
        ),
        modules={"joint": lambda info: SingleStream(info, streams=["text", "image"], depth=1)},
    )


def captions(toys, count=16):
    """Each text repeats one word, which its image shows."""
    tokens = sentences(toys, count=count, length=4)
    word = tokens.ids.reshape(count, 6)[:, 1]
    code = torch.randn(12, 4, generator=torch.Generator().manual_seed(5))
    image = toys.value_tokens([2] * count, seed=6)
    values = 0.1 * image.values + code[word].repeat_interleave(2, dim=0)
    return toys.batch(text=tokens, image=image.with_rows(values))


def test_given_streams_reach_the_prediction_and_stay_whole(toys):
    # everything said is hidden, so only the image can tell
    model = joint(toys, ratio=0.66, replace=1.0, random=0.0)
    batch = captions(toys)
    first, last = toys.train(model, batch, rate=0.01)
    assert last < 0.5 * first
    blank = toys.batch(
        text=batch.streams["text"],
        image=batch.streams["image"].with_rows(torch.zeros_like(batch.streams["image"].values)),
    )
    assert toys.mean(toys.loss(model, blank)) > 2 * toys.mean(toys.loss(model, batch))


def test_only_samples_with_all_given_streams_are_scored(toys):
    model = joint(toys, ratio=0.5)
    text = sentences(toys, count=3, length=4)
    some = toys.batch(text=text, image=toys.value_tokens([2, 0, 1]))
    found = toys.loss(model, some)
    assert int(found.count) == 4 == int(model.objective("objective").count(toys.step(model, some)))
    only = text.select([0, 2])
    rest = replace(
        toys.batch(text=only, image=some.streams["image"].select([0, 2])), keys=some.keys[[0, 2]]
    )
    torch.testing.assert_close(found.total, toys.loss(model, rest).total)
    none = toys.batch(text=text, image=toys.value_tokens([0, 0, 0]))
    found = toys.loss(model, none)
    assert int(found.count) == 0
    assert toys.gradients_are_finite(model, found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "ratio"),
        ({"replace": 0.9, "random": 0.2}, "mask and random"),
        ({"units": "span", "span_stop": 1.0}, "stop must"),
        ({"fusion": "joint"}, "fusion and given"),
        ({"fusion": "joint", "given": ["sound"]}, "sound"),
    ],
)
def test_bad_options_are_refused(toys, options, message):
    with pytest.raises(ValueError, match=message):
        masked(toys, **options)


def test_streams_without_ids_or_mask_id_are_refused(toys):
    info = toys.info(text=8)
    with pytest.raises(ValueError, match="needs tokens with ids"):
        MaskedTokens(info, stream="text", targets=Ids())
    with pytest.raises(ValueError, match="mask"):
        toys.model(
            {"text": TokenSpec(vocabulary=5)},
            objective=lambda info: MaskedTokens(info, stream="text"),
        )


def test_words_without_a_channel_are_refused(toys):
    with pytest.raises(ValueError, match="needs the channel 'word'"):
        toys.model(
            {"text": TokenSpec(vocabulary=12, special={"mask": toys.MASK})},
            objective=toys.named("masking.tokens", stream="text", units="word"),
        )


def test_a_tied_head_needs_an_encoder_with_a_table(toys):
    from polymodal import StreamInfo

    info = {"words": StreamInfo(toys.IDS, 16, table=False)}
    with pytest.raises(ValueError, match="needs a table of ids for a tied head.*set head: own"):
        MaskedTokens(info, stream="words")
    assert MaskedTokens(info, stream="words", head=Own()).head.own is not None


def test_scores_start_from_how_often_each_id_was_hidden(toys):
    model = masked(toys, ratio=0.5, frequencies=True)
    objective = model.objective("objective").train()
    for parameter in objective.head.transform.parameters():
        torch.nn.init.zeros_(parameter)  # every score is the prior alone
    step = toys.step(model, toys.batch(text=sentences(toys)))
    before = objective(step).total
    objective.after_update(step)
    seen = objective.frequencies.seen
    assert int(seen.sum()) == int(objective.count(step))
    # With no more to go by than frequencies, the loss is their entropy.
    share = seen[seen > 0].double() / seen.sum()
    entropy = -float((share * share.log()).sum())
    after = objective(step).total / objective.count(step)
    assert after.item() == pytest.approx(entropy, abs=0.02)
    assert before.item() / int(objective.count(step)) == pytest.approx(math.log(len(seen)), abs=0.1)


def test_frequencies_are_those_of_training(toys):
    model = masked(toys, ratio=0.5, frequencies=True)
    objective = model.objective("objective")
    model.eval()
    step = toys.step(model, toys.batch(text=sentences(toys)))
    objective(step)
    objective.after_update(step)
    assert int(objective.frequencies.seen.sum()) == 0
