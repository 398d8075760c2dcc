import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from polymodal import DataError, Layout, PretrainingModel, StreamInfo, Tokens, segment_mean
from polymodal_hiding import Concept as HideConcept
from polymodal_hiding import RandomTokens
from polymodal_masking import MaskedTokens
from polymodal_pooling import Attention
from polymodal_replacing import Bert
from polymodal_supervised import gradient_reversal
from polymodal_supervised.adversary import CHECK_EVERY, Adversary
from polymodal_supervised.classification import Classification
from polymodal_supervised.concept import Concept
from polymodal_supervised.reversal import ramp


def labelled(toys, labels, *, field="gender"):
    lengths = [3] * len(labels)
    batch = toys.batch(image=toys.value_tokens(lengths, seed=1))
    return replace(batch, fields={field: tuple(labels)})


def adversary(toys, **options):
    options = {"classes": ["a", "b"], **options}
    return toys.model(
        {"image": toys.VALUES},
        objective=lambda info: Adversary(info, stream="image", label="gender", **options),
    )


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_reversal_is_the_identity_and_turns_the_gradient():
    rows = torch.randn(2, 3, requires_grad=True)
    found = gradient_reversal(rows, 0.3)
    assert torch.equal(found, rows)
    (3 * found).sum().backward()
    torch.testing.assert_close(rows.grad, torch.full((2, 3), -0.9))
    rows.grad = None
    gradient_reversal(rows, 0.0).sum().backward()
    assert not rows.grad.any()


def test_the_ramp_is_that_of_the_domain_adversarial_paper():
    assert ramp(0) == 0 and ramp(1) == pytest.approx(0.99990920)
    assert ramp(0.1) == pytest.approx(math.tanh(0.5))


def test_the_head_learns_as_ever_and_the_encoder_gets_the_opposite(toys):
    batch = labelled(toys, ["a", "b", "a"])
    against = adversary(toys)
    control = toys.model(
        {"image": toys.VALUES},
        objective=lambda info: Concept(info, stream="image", label="gender", classes=["a", "b"]),
    )
    head = against.objective("objective").head[1].state_dict()
    control.objective("objective").head.load_state_dict(head)
    one, other = (toys.loss(model, batch) for model in (against, control))
    torch.testing.assert_close(one.total, other.total)
    reverse, plain = gradients(against, one.total), gradients(control, other.total)
    for name, gradient in plain.items():
        if name.startswith("encoders"):
            torch.testing.assert_close(reverse[name], -gradient)
        else:
            torch.testing.assert_close(reverse[name.replace("head.", "head.1.")], gradient)


def test_the_loss_is_cross_entropy_of_the_pooled_rows_that_have_a_label(toys):
    model = adversary(toys)
    batch = labelled(toys, ["b", None, "a"])
    found = toys.loss(model, batch)
    rows = toys.step(model, batch).encode("image").pooled_rows()[[0, 2]]
    logits = model.objective("objective").head(rows)
    expected = F.cross_entropy(logits, torch.tensor([1, 0]), reduction="sum")
    torch.testing.assert_close(found.total, expected)
    assert found.count == 2 and found.metrics["accuracy"][1] == 2


def test_reversing_before_or_after_the_mean_is_the_same():
    vectors = torch.randn(7, 4, requires_grad=True)
    layout, weight = Layout.of([3, 0, 4]), torch.randn(3, 4)
    before = segment_mean(gradient_reversal(vectors, 0.7), layout)
    after = gradient_reversal(segment_mean(vectors, layout), 0.7)
    grads = [torch.autograd.grad((found * weight).sum(), vectors)[0] for found in (before, after)]
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-6)
    assert not before[1].any()  # no tokens: zero, not 0 / 0
    mean = segment_mean(torch.tensor([[1.0], [3.0], [100.0]]), Layout.of([2, 1]))
    assert mean.flatten().tolist() == [2, 100]


def test_an_untrained_adversary_costs_about_what_guessing_does(toys):
    found = toys.loss(adversary(toys), labelled(toys, ["a", "b"] * 20))
    assert float(found.total.detach()) / 40 == pytest.approx(math.log(2), abs=0.25)


def test_the_strong_adversary_takes_its_own_steps_and_the_encoder_stands_still(toys):
    model = adversary(toys, preset="strong", adversary_rate=0.01)
    task, batch = model.objective("objective"), labelled(toys, ["a", "b", "a", "b"])
    (phase,) = task.phases().values()
    assert phase.updates == 5 and phase.learning_rate == 0.01
    assert {id(p) for p in phase.parameters} == {id(p) for p in task.parameters()}
    found = gradients(model, task.phase_loss(toys.step(model, batch), "adversary").total)
    assert all(name.startswith("objectives") for name in found)
    assert not adversary(toys).objective("objective").phases()
    attending = adversary(toys, preset="strong", pool=Attention()).objective("objective")
    (other,) = attending.phases().values()
    assert len(other.parameters) == len(phase.parameters) + 3  # the pooling learns with the head
    assert not task.separable and adversary(toys).objective("objective").separable


def test_towards_uniform_answers_the_encoder_moves_most_where_the_adversary_is_sure(toys):
    model = adversary(toys, adversary_steps=2, push="uniform", alpha=3.0)
    batch = labelled(toys, ["a", "b", "a", "b"])
    head = model.objective("objective").head[1][1]
    with torch.no_grad():
        head.bias.zero_()
    plain = adversary(toys, adversary_steps=2, alpha=3.0)
    plain.load_state_dict(model.state_dict())

    def size(model):
        found = gradients(model, toys.loss(model, batch).total)
        return sum(float(g.norm()) for name, g in found.items() if name.startswith("encoders"))

    # The loss shown is the adversary's in either case.
    assert torch.allclose(toys.loss(model, batch).total, toys.loss(plain, batch).total)
    with torch.no_grad():  # sure of every sample, whether right or wrong
        head.bias.copy_(torch.tensor([30.0, -30.0]))
    sure = size(model)
    plain.load_state_dict(model.state_dict())
    right = labelled(toys, ["a", "a", "a", "a"])
    found = gradients(plain, toys.loss(plain, right).total)
    assert all(g.abs().max() < 1e-9 for g in found.values())  # reversed: nothing left
    with torch.no_grad():
        head.bias.zero_()
        head.weight.mul_(1e-3)  # answers are uniform already
    assert size(model) < 1e-3 * sure


def test_a_strong_adversary_blinds_an_encoder_to_what_it_read_at_first(toys):
    model = adversary(toys, preset="strong", adversary_hidden=8, standardize=False)
    task, batch = model.objective("objective"), labelled(toys, ["a", "b"] * 100)
    shift = torch.tensor([1.0, -1.0]).repeat(100).repeat_interleave(3)[:, None]
    values = batch.streams["image"].values + shift * torch.tensor([2.0, 0.0, 0.0, 0.0])
    batch = replace(batch, streams={"image": batch.streams["image"].with_rows(values)})
    encoder = torch.optim.Adam(model.encoders.parameters(), lr=0.02)
    own = torch.optim.Adam(task.parameters(), lr=0.05)

    def adversary_steps(count):
        for _ in range(count):
            own.zero_grad()
            loss = task.phase_loss(toys.step(model, batch), "adversary")
            (loss.total / loss.count).backward()
            own.step()
        return float(loss.total.detach()) / loss.count

    assert adversary_steps(40) < 0.1
    for _ in range(150):
        encoder.zero_grad()
        found = task(toys.step(model, batch))
        (found.total / found.count).backward()
        encoder.step()
        adversary_steps(5)
    assert adversary_steps(100) > 0.6


def test_an_adversary_made_wrong_is_warned_of_once(toys):
    model = adversary(toys)
    task, batch = model.objective("objective"), labelled(toys, ["a", "a", "a"])
    with torch.no_grad():
        task.head[1][1].bias.copy_(torch.tensor([0.0, 8.0]))
    for number in range(2 * CHECK_EVERY):
        step = toys.step(model, batch, number=number)
        if number in (0, CHECK_EVERY - 1):
            task(step)
        if number == CHECK_EVERY - 1:
            with pytest.warns(
                UserWarning, match="'gender' has a loss of .* wrong instead of blind"
            ):
                task.after_update(step)
        else:
            task.after_update(step)


def tagged(toys, tags, segments):
    """Texts with a label a word, each word one token, between begin and end."""
    tokens = toys.id_tokens([[toys.BEGIN, *ids, toys.END] for ids in segments])
    word = torch.tensor([p for ids in segments for p in range(len(ids) + 2)])
    tokens = Tokens(replace(tokens.layout, channels={"word": word}), ids=tokens.ids)
    return replace(toys.batch(text=tokens), fields={"tags": tuple(tags)})


def masked_model(toys, hide=None, **options):
    """A masked objective "words" over texts and an adversary "checked" of adjectives."""
    torch.manual_seed(0)
    encoder = toys.Mixing(toys.IDS)
    info = {"text": StreamInfo(toys.IDS, encoder.width)}
    words = MaskedTokens(
        info,
        stream="text",
        hide=hide or HideConcept("tags", ["ADJ"]),
        replace=Bert(mask=1.0, random=0.0),
    )
    options = {"words": True, "masked": "words", "only_hidden": True, **options}
    checked = Adversary(info, stream="text", label="tags", present=["ADJ", "ADV"], **options)
    return PretrainingModel(
        {"text": "text"}, {"text": encoder}, {"text": toys.IDS},
        objectives={"checked": checked, "words": words},
    )  # fmt: skip


def test_of_hidden_words_the_adversary_tells_adjectives_from_others_in_the_same_pass(toys):
    model = masked_model(toys)
    batch = tagged(toys, [["NOUN", "ADJ", "VERB", "VERB"], ["VERB"]], [[5, 6, 7, 8], [9]])
    passes = []
    hook = model.encoder("text").register_forward_pre_hook(lambda *_: passes.append(1))
    losses = model(batch)
    hook.remove()
    assert len(passes) == 1
    assert losses["checked"].count == losses["words"].count == 2
    step = toys.step(model, batch)
    step.objective = "words"
    reader = model.objective("checked").reader
    found = reader.find(step)
    vectors, target = reader(found), found.target
    shared = step.shared(model.objective("words"))
    assert torch.equal(vectors, shared.encoded.vectors[shared.hidden.rows])
    assert [int(row == 2) for row in shared.hidden.rows] == target.flip(0).tolist()[::-1]
    assert sorted(target.tolist()) == [0, 1]


def test_words_that_were_chosen_and_do_not_count_are_not_asked_of_the_adversary(toys):
    # Of two marks and four words a half is three rows; two of them, the words' own half, count.
    model = masked_model(toys, hide=RandomTokens(0.5))
    batch = tagged(toys, [["ADJ", "NOUN", "VERB", "NOUN"]], [[5, 6, 7, 8]])
    for number in range(5):
        step = toys.step(model, batch, number=number)
        step.objective = "words"
        hidden = step.shared(model.objective("words")).hidden
        assert (len(hidden.rows), int(hidden.counted.sum())) == (3, 2)
        assert len(model.objective("checked").reader.find(step).target) == 2


def test_the_noise_of_a_shared_copy_is_that_of_its_own_objective(toys):
    model = masked_model(toys)
    tags = [["ADJ", *["NOUN"] * 7]] * 4
    batch = tagged(toys, tags, [[3, 4, 5, 6, 7, 8, 9, 10]] * 4)
    both, alone = (
        float(model(batch, objectives=names)["words"].total.detach())
        for names in (["checked", "words"], ["words"])
    )
    assert both == alone


def test_a_control_of_tags_leaves_out_what_is_ignored(toys):
    model = toys.model(
        {"text": toys.IDS},
        objective=lambda info: Concept(
            info, stream="text", label="tags", classes=["NOUN", "VERB"], words=True, ignore=["ADJ"]
        ),
    )
    batch = tagged(toys, [["NOUN", "ADJ", "VERB"], None], [[5, 6, 7], [8]])
    found = toys.loss(model, batch)
    encoded = toys.step(model, batch).encode("text")
    logits = model.objective("objective").head(encoded.vectors[[1, 3]])
    assert found.count == 2
    expected = F.cross_entropy(logits, torch.tensor([0, 1]), reduction="sum")
    torch.testing.assert_close(found.total, expected)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"present": ["x"]}, "give one"),
        ({"only_hidden": True}, "needs words"),
        ({"classes": 1}, "2 or more"),
        ({"push": "uniform"}, "needs adversary_steps"),
        ({"alpha": -1.0}, "must not be negative"),
        ({"words": True}, "channel 'word'"),
        ({"words": True, "pool": Attention()}, "give no pool"),
    ],
)
def test_options_that_contradict_each_other_are_refused(toys, options, reason):
    with pytest.raises(ValueError, match=reason):
        adversary(toys, **options)


def test_a_copy_of_an_objective_that_hides_nothing_of_the_stream_is_refused(toys):
    with pytest.raises(ValueError, match="must name an objective masking.tokens of the stream"):
        masked_model(toys, masked="checked")


def test_a_tag_that_is_no_class_is_refused(toys):
    model = toys.model(
        {"text": toys.IDS},
        objective=lambda info: Concept(
            info, stream="text", label="tags", classes=["NOUN", "VERB"], words=True
        ),
    )
    batch = tagged(toys, [["X"]], [[5]])
    with pytest.raises(DataError, match="'tags' holds 'X', which is no class"):
        toys.loss(model, batch)


def test_a_classifier_can_attend_and_standardize(toys):
    model = toys.model(
        {"image": toys.VALUES},
        objective=lambda info: Classification(
            info, stream="image", label="gender", classes=["a", "b"], pool=Attention(),
            standardize=True,
        ),
    )  # fmt: skip
    task, batch = model.objective("objective"), labelled(toys, ["a", None, "b", "b"])
    found = toys.loss(model, batch)
    vectors = task.pool.pool(toys.step(model, batch).encode("image"))[[0, 2, 3]]
    unit = (vectors - vectors.mean(dim=0)) / (vectors.var(dim=0, correction=0) + 1e-5).sqrt()
    expected = F.cross_entropy(task.head(unit), torch.tensor([0, 1, 1]), reduction="sum")
    torch.testing.assert_close(found.total, expected)
    assert not task.separable
