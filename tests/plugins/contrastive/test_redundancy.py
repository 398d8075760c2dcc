import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from polymodal import DataError
from polymodal_contrastive import redundancy
from polymodal_contrastive.redundancy import (
    RedundancyReduction,
    barlow_twins,
    cca_ssg,
    standardized,
)
from polymodal_contrastive.simclr import SimCLR
from polymodal_evaluation.raw import Raw

ONE = torch.tensor([[1.0, 2.0], [3.0, 1.0], [5.0, 6.0]])
OTHER = torch.tensor([[2.0, 1.0], [4.0, 2.0], [5.0, 7.0]])
LENGTHS = [2, 0, 3, 1]


def batch(toys, lengths=LENGTHS, again=None):
    one = toys.value_tokens(lengths, seed=1)
    two = toys.value_tokens(lengths if again is None else again, seed=2)
    return replace(toys.batch(image=one), streams={"image": one, "objective/again": two})


def step_of(toys, model, found, **options):
    step = toys.step(model, found, **options)
    step.objective = "objective"
    return step


def loss_of(toys, model, found, **options):
    return model.objective("objective")(step_of(toys, model, found, **options))


def model_of(toys, kind=RedundancyReduction, **options):
    return toys.model(
        {"image": toys.VALUES}, objective=lambda info: kind(info, stream="image", **options)
    )


def test_both_losses_have_the_worked_values():
    common = standardized(ONE).T @ standardized(OTHER) / 3
    wanted = torch.tensor([[0.654654, 0.622171], [0.412393, 0.62709]])
    torch.testing.assert_close(common, wanted, atol=1e-6, rtol=0)
    assert cca_ssg(ONE, OTHER).item() == pytest.approx(-1.280151, abs=1e-5)
    apart = cca_ssg(ONE, OTHER, weight=1.0) - cca_ssg(ONE, OTHER, weight=0.0)
    assert apart.item() == pytest.approx(0.730159 + 0.862263, abs=1e-5)
    assert barlow_twins(ONE, OTHER).item() == pytest.approx(0.536909, abs=1e-5)
    # Products are divided by N, deviations by N - 1.
    own = standardized(ONE).T @ standardized(ONE) / 3
    torch.testing.assert_close(own.diagonal(), torch.full((2,), 2 / 3))


def test_correlations_are_numpys():
    rows = np.random.default_rng(0).normal(size=(9, 4))
    found = standardized(torch.tensor(rows)).T @ standardized(torch.tensor(rows)) / 8
    np.testing.assert_allclose(found, np.corrcoef(rows.T), atol=1e-12)


def test_flat_channels_no_rows_and_one_row_have_a_loss_and_gradients():
    for rows in (torch.zeros(0, 3), torch.ones(1, 3), torch.ones(5, 3)):
        rows = rows.clone().requires_grad_()
        for loss in (barlow_twins(rows, rows), cca_ssg(rows, rows)):
            (grad,) = torch.autograd.grad(loss, rows)
            assert loss.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize("loss", ["barlow_twins", "cca_ssg"])
@pytest.mark.parametrize("each", ["sample", "token"])
def test_rows_are_samples_or_tokens_of_both_views(toys, loss, each):
    model, found = model_of(toys, each=each, loss=loss), batch(toys)
    encoded = [model.encoder("image")(tokens) for tokens in found.streams.values()]
    if each == "token":
        one, other = (view.vectors for view in encoded)
    else:
        one, other = (view.pooled[[0, 2, 3]] for view in encoded)
    wanted = {"barlow_twins": barlow_twins, "cca_ssg": cca_ssg}[loss](one, other)
    result = loss_of(toys, model, found)
    assert (
        result.count == len(one) == model.objective("objective").count(step_of(toys, model, found))
    )
    torch.testing.assert_close(result.total / result.count, wanted)
    pair = np.corrcoef(one.detach().T, other.detach().T)[:8, 8:].diagonal()
    agreed = float(result.metrics["correlation"][0]) / result.count
    assert agreed == pytest.approx(pair.mean() * (len(one) - 1) / len(one), abs=1e-4)


def test_a_second_stream_can_be_the_other_view(toys):
    spec = toys.VALUES
    model = toys.model(
        {"image": spec, "text": spec},
        objective=lambda info: RedundancyReduction(info, stream="image", other="text", dim=5),
    )
    assert not model.objective("objective").views()
    image, text = toys.value_tokens([2, 1, 0, 3]), toys.value_tokens([1, 4, 2, 2], seed=4)
    found = loss_of(toys, model, toys.batch(image=image, text=text))
    assert found.count == 3
    assert toys.gradients_are_finite(model, found)


def test_views_that_lost_tokens_can_not_be_compared_token_by_token(toys):
    model = model_of(toys, each="token")
    with pytest.raises(DataError, match="differ in how many tokens"):
        loss_of(toys, model, batch(toys, [2, 2], [2, 1]))
    # A sample that lacks the view altogether is left out.
    other = toys.model(
        {"image": toys.VALUES, "text": toys.VALUES},
        objective=lambda info: RedundancyReduction(
            info, stream="image", other="text", each="token"
        ),
    )
    image, text = toys.value_tokens([2, 1, 3]), toys.value_tokens([2, 0, 3], seed=4)
    assert loss_of(toys, other, toys.batch(image=image, text=text)).count == 5


def test_channels_are_normalised_over_all_ranks(toys, monkeypatch):
    model, whole = model_of(toys, each="token"), batch(toys)
    wanted = loss_of(toys, model, whole)
    here, there = (
        replace(whole, samples=2, keys=whole.keys[part],
                streams={n: t.take(part) for n, t in whole.streams.items()})
        for part in ([0, 1], [2, 3])
    )  # fmt: skip
    rows = []
    monkeypatch.setattr(redundancy, "gathered", lambda step, own: (rows.append(own), (own, 0))[1])
    loss_of(toys, model, here), loss_of(toys, model, there)
    both = torch.cat(rows)
    monkeypatch.setattr(redundancy, "gathered", lambda step, own: (both, 0))
    parts = [loss_of(toys, model, part) for part in (here, there)]
    torch.testing.assert_close(sum(part.total for part in parts), wanted.total)


@pytest.mark.parametrize("loss", ["barlow_twins", "cca_ssg"])
def test_a_few_steps_make_views_agree_without_repeating(toys, loss):
    model = model_of(toys, loss=loss, weight=0.1 if loss == "cca_ssg" else None)
    one = toys.value_tokens([1] * 40, seed=1)
    two = one.with_rows(one.values + 0.3 * torch.randn(one.values.shape))
    found = replace(toys.batch(image=one), streams={"image": one, "objective/again": two})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    means = []
    for _ in range(60):
        result = loss_of(toys, model, found)
        means.append(result.total.item() / result.count)
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
    assert means[-1] < means[0] - 0.1 * abs(means[0])
    rows = standardized(model.encoder("image")(one).pooled.detach())
    common = rows.T @ rows / 39
    # Four numbers in, eight channels out: at most half of them can be free of the others.
    assert common.abs().mean() < 0.7


def grace(one, other, temperature):
    """The semi-losses of GRACE, pair by pair."""
    unit = [torch.nn.functional.normalize(rows.double(), dim=1) for rows in (one, other)]
    found = []
    for u in range(len(one)):
        between = (unit[0][u] @ unit[1].T / temperature).exp()
        within = (unit[0][u] @ unit[0].T / temperature).exp()
        below = between.sum() + within.sum() - within[u]
        found.append(-math.log(between[u] / below))
    return found


def test_simclr_of_tokens_is_grace_with_its_worked_values_in_any_tiles(toys):
    one = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    other = torch.tensor([[4.0, 3.0], [0.0, 1.0]])
    assert grace(one, other, 0.4) == pytest.approx([0.730871, 2.554957], abs=1e-6)
    spec = replace(toys.VALUES, features=2)
    totals = []
    for tile in (None, 1, 2):
        model = toys.model(
            {"image": spec},
            objective=lambda info, tile=tile: SimCLR(
                info, stream="image", each="token", temperature=0.4, tile=tile
            ),
            encoders={"image": Raw(spec)},
        )
        model.objective("objective").projector = torch.nn.Identity()
        streams = {
            name: toys.value_tokens([2, 1], features=2).with_rows(rows)
            for name, rows in (("image", ONE), ("objective/again", OTHER))
        }
        found = loss_of(toys, model, replace(toys.batch(image=streams["image"]), streams=streams))
        assert found.count == 6
        totals.append(found.total.item())
    wanted = sum(grace(ONE, OTHER, 0.4)) + sum(grace(OTHER, ONE, 0.4))
    assert totals == pytest.approx([wanted] * 3, abs=1e-5)


def test_impossible_options_are_refused(toys):
    info = toys.info(image=8, text=6)
    for options, text in [
        ({"loss": "vicreg"}, "loss must be"),
        ({"weight": -1.0}, "weight"),
        ({"dim": 0}, "must be 1 or more"),
        ({"each": "pixel"}, "each must be"),
        ({"other": "image"}, "other than 'image'"),
        ({"other": "text"}, "widths 8 and 6"),
        ({"other": "txt"}, "Did you mean 'text'"),
    ]:
        with pytest.raises(ValueError, match=text):
            RedundancyReduction(info, **{"stream": "image", **options})
