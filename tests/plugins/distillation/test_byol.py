from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from polymodal import Teacher
from polymodal_distillation.byol import BYOL
from polymodal_evaluation.raw import Raw

LENGTHS = [2, 0, 3, 1]


def batch(toys, rows=None):
    one, two = (toys.value_tokens(LENGTHS, seed=seed) for seed in (1, 2))
    if rows is not None:
        one, two = (toys.value_tokens([1] * len(r), features=2).with_rows(r) for r in rows)
    return replace(toys.batch(image=one), streams={"image": one, "objective/again": two})


def step_of(toys, model, found, **options):
    step = toys.step(model, found, **options)
    step.objective = "objective"
    return step


def loss_of(toys, model, found, **options):
    return model.objective("objective")(step_of(toys, model, found, **options))


def model_of(toys, spec=None, encoders=None, **options):
    spec = spec or toys.VALUES
    return toys.model(
        {"image": spec},
        objective=lambda info: BYOL(info, stream="image", hidden=6, **options),
        encoders=encoders,
    )


def test_the_loss_has_the_worked_values(toys):
    spec = replace(toys.VALUES, features=2)
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    y = torch.tensor([[4.0, 3.0], [0.0, 1.0]])
    for other, wanted in ((y, 1.04), (x, 0.0), (-x, 4.0)):
        model = model_of(toys, spec, {"image": Raw(spec)})
        model.objective("objective").predictor = nn.Identity()
        found = loss_of(toys, model, batch(toys, (x, other)))
        assert found.total.item() / found.count == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("each", ["sample", "token"])
@pytest.mark.parametrize("dim", [None, 5])
def test_each_views_guess_is_compared_with_the_slow_copy_of_the_other(toys, each, dim):
    model, found = model_of(toys, each=each, dim=dim), batch(toys)
    objective, encoder = model.objective("objective"), model.encoder("image")
    with torch.no_grad():  # part the encoder from its copy
        for parameter in [*encoder.parameters(), *objective.projector.parameters()]:
            parameter += 0.1 * torch.randn(parameter.shape)

    def rows(encoded):
        return encoded.vectors if each == "token" else encoded.pooled[[0, 2, 3]]

    views = list(found.streams.values())
    guesses = [objective.predictor(objective.projector(rows(encoder(v)))) for v in views]
    targets = [objective.slow_projector(rows(objective.slow_encoder(v))) for v in views]
    wanted = (
        2 - cosine_similarity(guesses[0], targets[1]) - cosine_similarity(*guesses[1:], targets[0])
    )
    result = loss_of(toys, model, found)
    torch.testing.assert_close(result.total, wanted.sum())
    assert result.count == len(wanted) == objective.count(step_of(toys, model, found))


def test_slow_copies_get_no_gradient_and_stand_still_at_the_end(toys):
    model, found = model_of(toys, momentum=0.99, dim=4), batch(toys)
    objective = model.objective("objective")
    loss_of(toys, model, found).total.backward()
    copies = [*objective.slow_encoder.parameters(), *objective.slow_projector.parameters()]
    assert all(p.grad is None for p in copies)
    assert all(p.grad is not None for p in objective.predictor.parameters())
    student = next(model.encoder("image").parameters())
    slow = next(objective.slow_encoder.parameters())
    with torch.no_grad():
        student += 1
    moved = []
    for number in (0, 50, 100):
        before = slow.clone()
        objective.after_update(step_of(toys, model, found, number=number, total=100))
        moved.append(float(((slow - before) / (student.detach() - before)).mean()))
    assert moved == pytest.approx([0.01, 0.005, 0.0], abs=1e-5)


def test_the_copy_is_exact_or_drawn_anew_by_the_objectives_own_seed(toys):
    def weights(**options):
        model = model_of(toys, **options)
        slow = model.objective("objective").slow_encoder
        assert isinstance(slow, Teacher)
        return [torch.cat([p.detach().flatten() for p in part.parameters()])
                for part in (model.encoder("image"), slow.module)]  # fmt: skip

    own, copy = weights()
    assert torch.equal(own, copy)
    own, other = weights(restart=True)
    assert not torch.allclose(own, other)
    torch.rand(3)  # where the program's own generator stands means nothing
    assert torch.equal(weights(restart=True)[1], other)


def test_streams_with_an_encoder_each_and_impossible_numbers_are_refused(toys):
    with pytest.raises(ValueError, match="must share one encoder"):
        toys.model(
            {"image": toys.VALUES, "text": toys.VALUES},
            objective=lambda info: BYOL(info, stream="image", other="text"),
        )
    for options, text in [({"momentum": 1.5}, "momentum"), ({"hidden": 0}, "1 or more")]:
        with pytest.raises(ValueError, match=text):
            BYOL(toys.info(image=8), stream="image", **options)


def test_a_few_steps_predict_the_other_view_without_collapse(toys):
    model = model_of(toys, momentum=0.9)
    one = toys.value_tokens([1] * 30, seed=1)
    two = one.with_rows(one.values + 0.1 * torch.randn(one.values.shape))
    found = replace(toys.batch(image=one), streams={"image": one, "objective/again": two})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    means = []
    for number in range(40):
        step = step_of(toys, model, found, number=number, total=100)
        loss = model.objective("objective")(step)
        means.append(loss.total.item() / loss.count)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        model.objective("objective").after_update(step)
    assert means[-1] < 0.2 * means[0]
    vectors = nn.functional.normalize(model.encoder("image")(one).pooled.detach(), dim=1)
    assert (vectors @ vectors.T).mean() < 0.9
