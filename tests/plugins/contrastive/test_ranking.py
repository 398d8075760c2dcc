import pytest
import torch

from polymodal import Batch
from polymodal_contrastive.matching import Matching
from polymodal_contrastive.ranking import Ranking
from polymodal_fusion.single_stream import SingleStream


def ranking(toys, kind=Ranking, **options):
    return toys.model(
        {"image": toys.VALUES, "text": toys.VALUES},
        objective=lambda info: kind(info, streams=["image", "text"], fusion="joint", **options),
        modules={"joint": lambda info: SingleStream(info, streams=["image", "text"], depth=1)},
    )


def partners(toys, lengths_a, lengths_b):
    """Two streams whose samples share a mean, so that they can be matched."""
    a, b = toys.value_tokens(lengths_a, seed=1), toys.value_tokens(lengths_b, seed=2)
    mark = 3 * torch.randn(len(lengths_a), 4, generator=torch.Generator().manual_seed(3))
    return toys.batch(
        image=a.with_rows(a.values + mark[a.layout.sample]),
        text=b.with_rows(b.values + mark[b.layout.sample]),
    )


def table(toys, model, batch, rows):
    """The score of every pair, one at a time."""
    score = model.objective("objective").score
    step = toys.step(model, batch)
    with torch.no_grad():
        return torch.tensor([[float(score(step, [(a, b)])[0]) for b in rows] for a in rows])


def test_hard_negatives_are_the_highest_scores_of_either_side(toys):
    model = ranking(toys, hard=True, negatives=2)
    batch = partners(toys, [1, 2, 0, 2, 1], [2, 1, 1, 1, 2])
    found = toys.loss(model, batch)
    scores = table(toys, model, batch, [0, 1, 3, 4])
    true = scores.diagonal().sigmoid()
    wrong = scores.masked_fill(torch.eye(4, dtype=torch.bool), -torch.inf)
    expected = 0.0
    first = 0
    for side in (wrong, wrong.T):
        best = side.sigmoid().topk(2, dim=1).values
        expected += (0.2 + best - true[:, None]).clamp(min=0).sum().item()
        first += (true > best[:, 0]).sum().item()
    assert found.count == 16
    assert found.total.item() == pytest.approx(expected, rel=1e-4)
    assert found.metrics["recall@1"] == (first, 8)


def test_drawn_negatives_are_counted_ahead_of_the_pass(toys):
    model = ranking(toys, negatives=3)
    batch = partners(toys, [1, 2, 0, 2], [2, 1, 1, 1])
    found = toys.loss(model, batch)
    # three samples have two others each, on either side
    assert found.count == 12 == model.objective("objective").count(toys.step(model, batch))
    assert toys.gradients_are_finite(model, found)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("hard", [False, True])
def test_samples_equal_in_a_field_are_not_ranked_against_each_other(toys, hard):
    model = ranking(toys, hard=hard, negatives=2, same="label")
    tokens = partners(toys, [1, 1, 1], [1, 1, 1])
    batch = Batch(tokens.streams, 3, tokens.keys, fields={"label": ("cat", "cat", "dog")})
    # a cat has the dog alone, the dog both cats; drawn twice, a cat meets the dog twice
    assert toys.loss(model, batch).count == (8 if hard else 12)
    alone = Batch(tokens.streams, 3, tokens.keys, fields={"label": ("cat",) * 3})
    assert toys.loss(model, alone).count == 0


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("lengths", [([], []), ([1, 0], [0, 1]), ([2], [1])])
def test_ranking_without_others_costs_nothing_and_reaches_every_part(toys, hard, lengths):
    model = ranking(toys, hard=hard)
    found = toys.loss(model, partners(toys, *lengths))
    assert found.count == 0 == found.total
    assert toys.gradients_are_finite(model, found)
    assert all(p.grad is not None for p in model.objective("objective").parameters())


@pytest.mark.parametrize("hard", [False, True])
def test_ranking_learns_to_put_partners_first(toys, hard):
    batch = partners(toys, [2, 1, 2, 1, 2, 1], [1, 2, 1, 2, 1, 2])
    first, last = toys.train(ranking(toys, hard=hard), batch, steps=60, rate=0.01)
    assert last < 0.6 * first


def test_ranking_starts_from_the_weights_of_matching(toys):
    names = ranking(toys, Matching).objective("objective").state_dict().keys()
    assert ranking(toys).objective("objective").state_dict().keys() == names


@pytest.mark.parametrize(
    ("options", "message"),
    [({"margin": 1.0}, "margin"), ({"negatives": 0}, "negatives"), ({"read": []}, "read")],
)
def test_bad_options_are_refused(toys, options, message):
    with pytest.raises(ValueError, match=message):
        ranking(toys, **options)
