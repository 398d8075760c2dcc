import math

import pytest
import torch

from polymodal import Layout
from polymodal.testing.toys import ToyMerging
from polymodal_masking.merged import MergedReconstruction, token_chances


@pytest.fixture
def make(toys):
    """A model whose stream "words" has an encoder that merges tokens."""

    def make(encoder=None, **options):
        small = {"latent_depth": 1, "local_depth": 1, "window": 4} | options
        torch.manual_seed(0)
        return toys.model(
            {"words": toys.IDS},
            encoders={"words": encoder or ToyMerging(toys.IDS)},
            objective=lambda info: MergedReconstruction(info, stream="words", **small),
        )

    return make


def words(toys, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return toys.id_tokens(
        [torch.randint(3, 12, (n,), generator=generator).tolist() for n in lengths]
    )


def parts(toys, model, batch):
    """The objective, its step, and what passes 1 and 2 make."""
    step = toys.step(model, batch)
    encoder = model.encoder("words")
    found = encoder.embed(step.tokens("words"))
    return model.objective("objective"), step, found, encoder.contextualize(found, keep=0.5)


def test_chances_are_those_of_the_paper():
    """Groups of 1, 1, 2 and 4 words."""
    group = torch.tensor([0, 1, 2, 2, 3, 3, 3, 3])
    wanted = [0.363636, 0.363636, *[0.090909] * 2, *[0.022727] * 4]
    assert token_chances(group, Layout.of([8])).tolist() == pytest.approx(wanted, abs=1e-6)
    even = torch.tensor([0, 0, 1, 1, 2, 2])
    assert token_chances(even, Layout.of([4, 0, 2])).tolist() == pytest.approx(
        [0.25] * 4 + [0.5] * 2
    )


def test_the_first_word_drawn_has_these_chances(toys, make):
    model = make()
    chances = torch.tensor([0.4, 0.4, 0.1, 0.1])
    drawn = torch.zeros(4)
    for number in range(2000):
        step = toys.step(model, toys.batch(words=words(toys, [4])), number=number)
        noise = step.uniform("n", step.tokens("words"))
        drawn[(-torch.log1p(-noise) / chances).argmin()] += 1
    assert torch.allclose(drawn / 2000, chances, atol=0.04)


def test_as_many_words_as_groups_are_hidden_and_all_their_tokens(toys, make):
    model = make()
    batch = toys.batch(words=words(toys, [16, 0, 9, 1]))
    objective, step, found, groups = parts(toys, model, batch)
    hidden, count = objective.hidden(step, found, groups)
    assert found.layout.lengths == (8, 0, 5, 1) and groups.layout.lengths == (4, 0, 3, 1)
    by_word = [hidden[found.source == word] for word in range(found.layout.tokens)]
    assert all(each.all() or not each.any() for each in by_word)
    chosen = torch.tensor([bool(each.any()) for each in by_word])
    chosen = torch.bincount(found.layout.segment[chosen], minlength=4)
    assert chosen.tolist() == count.tolist() == [4, 0, 3, 1]


def test_what_is_hidden_can_not_be_seen(toys, make):
    model = make()
    tokens = words(toys, [9, 6])
    objective = model.objective("objective").eval()
    rows = torch.tensor([1, 2, 10])
    first = objective.predict(model.encoder("words"), tokens, rows)
    other = tokens.with_rows(tokens.ids.index_fill(0, rows, 5))
    assert torch.equal(objective.predict(model.encoder("words"), other, rows), first)


def test_each_pass_trains_its_own_parts(toys, make):
    def trained(**weights):
        none = {"reconstruction": 0.0, "latent": 0.0, "masked": 0.0}
        model = make(**(none | weights))
        toys.loss(model, toys.batch(words=words(toys, [16, 9]))).total.backward()
        encoder, decoder = model.encoder("words"), model.objective("objective").decoder
        named = {"local": encoder.local, "stem": encoder.stem, "trunk": encoder.trunk,
                 "decoder": decoder}  # fmt: skip
        return {
            name
            for name, module in named.items()
            if any(p.grad is not None and p.grad.any() for p in module.parameters())
        }

    everything = {"local", "stem", "trunk", "decoder"}
    assert trained(reconstruction=1.0) == everything
    assert trained(latent=1.0) == {"trunk", "decoder"}
    assert trained(masked=1.0) == everything


def test_untrained_it_guesses(toys, make):
    model = make()
    found = toys.loss(model, toys.batch(words=words(toys, [16, 9, 12])))
    for name in ("reconstruction", "latent", "masked"):
        total, count = found.metrics[name]
        assert float(total / count) == pytest.approx(math.log(12), abs=0.05)


@pytest.mark.parametrize("over", ["bases", "tokens"])
def test_the_loss_is_that_of_the_paper_by_sequence(toys, make, over):
    """Equation 8, sequence by sequence, each as many times as it has tokens that count."""
    model = make(masked_over=over)
    tokens = words(toys, [12, 0, 8])
    tokens = tokens.with_rows(tokens.ids.index_fill(0, torch.tensor([0, 12]), toys.BEGIN))
    batch = toys.batch(words=tokens)
    objective, step, found, groups = parts(toys, model, batch)
    step.objective = "objective"
    encoder, decoder = model.encoder("words"), objective.decoder
    hidden, count = objective.hidden(step, found, groups)
    ids = tokens.ids
    rows = (hidden & (ids > toys.END)).nonzero()[:, 0]
    group = {int(w): int(g) for w, g in zip(found.source, groups.source, strict=True)}
    spread = torch.stack([groups.vectors[group[w]] for w in range(found.layout.tokens)])
    scores = {
        "reconstruction": decoder(encoder.contextualize(found), tokens.layout),
        "latent": decoder(type(found)(found.layout, spread, found.pooled, found.source),
                          tokens.layout),
    }  # fmt: skip
    masked = torch.full((20, 12), torch.nan)
    masked[rows] = objective.predict(encoder, tokens, rows)
    total = 0.0
    for segment in (0, 2):
        mine = (tokens.layout.segment == segment) & (ids > toys.END)
        for name, weight in (("reconstruction", 1.0), ("latent", 0.25)):
            chances = scores[name].log_softmax(dim=1)[mine, ids[mine]]
            total -= weight * chances.sum()
        at = mine & hidden
        chances = masked.log_softmax(dim=1)[at, ids[at]]
        size = int(at.sum()) if over == "bases" else int(count[segment])
        total -= chances.sum() / size * int(mine.sum())
    loss = objective(step)
    assert int(loss.count) == 18
    torch.testing.assert_close(loss.total, total, rtol=1e-4, atol=0)


def test_a_few_steps_bring_the_loss_down(toys, make):
    first, last = toys.train(make(masked=0.0), toys.batch(words=words(toys, [12, 8, 5])), steps=40)
    assert last < 0.7 * first


def test_passes_of_weight_zero_are_not_made(toys, make):
    model = make(latent=0.0, masked=0.0)
    calls = []
    model.encoder("words").trunk.register_forward_hook(lambda *_: calls.append(1))
    found = toys.loss(model, toys.batch(words=words(toys, [8])))
    assert len(calls) == 1 and set(found.metrics) == {"reconstruction", "rebuilt"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reconstruction": 0.0, "latent": 0.0, "masked": 0.0}, "one above 0"),
        ({"latent": -1.0}, "one above 0"),
        ({"keep": 1.0}, "keep must lie between"),
        ({"window": 0}, "window must be 1"),
    ],
)
def test_bad_options_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_an_encoder_that_does_not_merge_is_refused(toys, make):
    with pytest.raises(ValueError, match="needs an encoder that merges tokens"):
        make(encoder=toys.Mixing(toys.IDS))
