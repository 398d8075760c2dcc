import math
from dataclasses import replace

import pytest
import torch

from polymodal import PretrainingModel
from polymodal.packed.chaining import stack_layouts
from polymodal_distillation import heads as heading
from polymodal_distillation.dino import DINO
from polymodal_distillation.heads import Centre, Head, Heads
from polymodal_distillation.ibot import IBOT
from polymodal_distillation.losses import entropy, patch_loss, view_loss
from polymodal_distillation.teaching import Plan
from polymodal_hiding import Blocks

SMALL = {"outputs": 7, "hidden": 12, "bottleneck": 5}


def heads(outputs=2):
    return Heads(4, outputs=outputs, hidden=6, bottleneck=3, centre_momentum=0.9)


def views(toys, sides=(2, 0, 3, 2)):
    image, again = (toys.plane_tokens(sides, seed=seed) for seed in (1, 2))
    return replace(toys.batch(image=image), streams={"image": image, "objective/again": again})


def model_of(toys, kind, **options):
    return toys.model(
        {"image": toys.PLANE},
        objective=lambda info: kind(info, stream="image", **{**SMALL, **options}),
    )


def loss_of(model, batch, number=10):
    return model(batch, number=number, total=100)["objective"]


def test_the_loss_between_views_has_the_worked_values():
    taught = heads().targets(torch.tensor([[[0.1, 0.0]], [[0.0, 0.1]]]), 0.04)
    torch.testing.assert_close(taught[0, 0], torch.tensor([0.924142, 0.075858]), atol=1e-6, rtol=0)
    student = (torch.eye(2)[:, None] / 0.1).log_softmax(dim=-1)
    # Each cross term, so their mean; a view is never compared with itself.
    assert view_loss(taught, student).item() == pytest.approx(9.241464, abs=1e-5)
    uniform = torch.full((2, 1, 8), 1 / 8)
    assert view_loss(uniform, uniform.log()).item() == pytest.approx(math.log(8))
    assert entropy(uniform).flatten().tolist() == pytest.approx([math.log(8)] * 2)
    assert entropy(torch.eye(3)).sum() == 0


def test_the_loss_between_views_agrees_with_a_loop():
    targets = torch.randn(2, 3, 5).double().softmax(dim=-1)
    guesses = torch.randn(4, 3, 5).double().log_softmax(dim=-1)
    expected = torch.zeros(3).double()
    for teacher in range(2):
        for student in range(4):
            if teacher != student:
                expected -= (targets[teacher] * guesses[student]).sum(dim=1) / 6
    torch.testing.assert_close(view_loss(targets, guesses), expected)
    torch.testing.assert_close(
        patch_loss(targets[0], guesses[0]), -(targets[0] * guesses[0]).sum(dim=1)
    )


def test_the_centre_is_a_slow_mean_over_all_that_was_noted_and_moves_after_the_loss(toys):
    centre = Centre(2)
    centre.note(torch.tensor([[1.0, 2.0]]))
    centre.note(torch.tensor([[3.0, 6.0], [5.0, 1.0]]))  # of another micro-batch
    assert centre.centre.tolist() == [0.0, 0.0]
    centre.update()
    torch.testing.assert_close(centre.centre, 0.1 * torch.tensor([3.0, 3.0]))
    centre.update()  # nothing was noted since
    torch.testing.assert_close(centre.centre, 0.1 * torch.tensor([3.0, 3.0]))
    assert set(centre.state_dict()) == {"centre"}

    model, batch = model_of(toys, DINO), views(toys)
    first, second = loss_of(model, batch).total, loss_of(model, batch).total
    assert first == second
    model.objective("objective").after_update(toys.step(model, batch, number=10, total=100))
    assert model.objective("objective").heads.centre.centre.any()
    assert loss_of(model, batch).total != first


def test_the_centre_is_the_mean_over_all_ranks(monkeypatch):
    centre = Centre(2, momentum=0.0)
    centre.note(torch.tensor([[1.0, 2.0]]))
    theirs = torch.tensor([7.0, 4.0, 3.0])  # sums of three rows on another rank, and their number
    monkeypatch.setattr(heading, "sum_over_ranks", lambda sums: sums + theirs)
    centre.update()
    torch.testing.assert_close(centre.centre, torch.tensor([2.0, 1.5]))


def test_evaluation_leaves_the_centre_alone(toys):
    model, batch = model_of(toys, DINO), views(toys)
    model.eval()
    loss_of(model, batch)
    assert not model.objective("objective").heads.centre.noted.any()


def test_a_frozen_last_layer_gets_a_zero_gradient_and_its_norm_says_nothing():
    head = Head(4, outputs=3, hidden=6, bottleneck=5)
    rows = torch.randn(2, 4)
    loss = head(rows, frozen=True).square().sum()
    loss.backward()
    assert not head.directions.grad.any() and head.body[0].weight.grad.any()
    with torch.no_grad():
        head.directions *= 7.0
    torch.testing.assert_close(head(rows).square().sum(), loss)
    assert head(rows).abs().max() <= 1 + 1e-6


def test_batch_norms_tell_rows_apart_that_are_nearly_equal():
    rows = 5 + 0.01 * torch.randn(2, 20, 4)  # view row width
    for norm, equal in ((False, True), (True, False)):
        logits = Head(4, outputs=30, hidden=16, bottleneck=8, norm=norm)(rows)
        assert logits.shape == (2, 20, 30)
        spread = logits.flatten(0, 1).std(dim=0).mean()  # 0.35 for directions drawn at random
        assert (spread < 0.02) == equal and (spread > 0.2) != equal


@pytest.mark.parametrize("kind", [DINO, IBOT])
def test_heads_with_batch_norms_train_on_whole_batches_alone(toys, kind):
    model, batch = model_of(toys, kind, norm=True), views(toys)
    assert not model.objective("objective").separable
    loss_of(model, batch).total.backward()
    student = model.objective("objective").heads.student
    norms = [m for m in student.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert len(norms) == 2 and all(m.weight.grad.any() and m.running_mean.any() for m in norms)


def test_temperature_rises_over_the_warm_up_and_momentum_to_one(toys):
    plan = Plan(0.1, (0.04, 0.07), 0.5, 0.9, 0.1)
    model, batch = model_of(toys, DINO), views(toys)
    steps = [toys.step(model, batch, number=n, total=100) for n in (0, 25, 50, 100)]
    assert [plan.temperature(s) for s in steps] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert [plan.momentum_at(s) for s in steps] == pytest.approx([0.9, 0.914645, 0.95, 1.0])
    assert [plan.frozen(s) for s in steps] == [True, False, False, False]
    with pytest.raises(ValueError, match="temperatures must be above 0"):
        Plan(0.1, (0.0, 0.07), 0.5, 0.9, 0.1)
    with pytest.raises(ValueError, match="warmup must lie between 0 and 1"):
        Plan(0.1, (0.04, 0.07), 1.5, 0.9, 0.1)


@pytest.mark.parametrize("kind", [DINO, IBOT])
def test_the_teacher_gets_no_gradient_and_follows(toys, kind):
    model, batch = model_of(toys, kind), views(toys)
    found = loss_of(model, batch)
    found.total.backward()
    objective = model.objective("objective")
    assert found.count == 3
    frozen = {n for n, p in objective.named_parameters() if not p.requires_grad}
    assert all("teacher" in name for name in frozen) and frozen
    assert all(p.grad is None for n, p in objective.named_parameters() if n in frozen)
    student = next(model.encoder("image").parameters())
    slow = next(objective.teacher.parameters())
    with torch.no_grad():
        student += 1
    before = slow.clone()
    objective.after_update(toys.step(model, batch, number=0, total=100))
    torch.testing.assert_close(slow, before.lerp(student, 0.004))


def with_local(toys, kind, **options):
    """A model whose small crops share the encoder of the large ones."""
    alone = toys.model({"image": toys.PLANE})
    info = {**alone.info, "small": alone.info["image"]}
    objective = kind(info, stream="image", local="small", local_crops=2, **SMALL, **options)
    model = PretrainingModel(
        {"image": "image", "small": "image"},
        dict(alone.encoders),
        {"image": toys.PLANE, "small": toys.PLANE},
        objectives={"objective": objective},
    )
    large = views(toys, (4, 0, 4))
    small = {
        n: toys.plane_tokens((2, 0, 1), seed=s) for s, n in ((5, "small"), (6, "objective/local_1"))
    }
    return model, replace(large, streams={**large.streams, **small})


@pytest.mark.parametrize("kind", [DINO, IBOT])
def test_small_crops_of_other_sizes_are_seen_by_the_student_alone(toys, kind):
    model, batch = with_local(toys, kind)
    objective = model.objective("objective")
    assert set(objective.views()) == {"again", "local_1"}
    seen = []
    objective.teacher.register_forward_pre_hook(lambda _, given: seen.append(given[0].layout))
    found = loss_of(model, batch)
    assert found.count == 2 and [layout.lengths for layout in seen] == [(16, 0, 16, 16, 0, 16)]
    changed = dict(batch.streams)
    changed["objective/local_1"] = toys.plane_tokens((2, 0, 1), seed=9)
    assert loss_of(model, replace(batch, streams=changed)).total != found.total


def test_dino_with_small_crops_is_the_loss_of_each_view_encoded_alone(toys):
    model, batch = with_local(toys, DINO)
    objective, rows = model.objective("objective"), [0, 2]
    names = ["image", "objective/again", "small", "objective/local_1"]
    pooled = [model.encoder("image")(batch.streams[n]).pooled_rows()[rows] for n in names]
    guesses = (objective.heads.student(torch.stack(pooled)) / 0.1).log_softmax(dim=-1)
    targets = (objective.heads.student(torch.stack(pooled[:2])) / 0.04).softmax(dim=-1)
    expected = view_loss(targets.detach(), guesses).sum()
    torch.testing.assert_close(loss_of(model, batch).total, expected)


def test_small_crops_need_the_same_encoder_and_their_own_stream(toys):
    specs = {"image": toys.PLANE, "small": toys.PLANE}
    with pytest.raises(ValueError, match="must share one encoder"):
        toys.model(specs, objective=lambda i: DINO(i, stream="image", local="small", **SMALL))
    with pytest.raises(ValueError, match="other than 'image'"):
        DINO(toys.info(image=8), stream="image", local="image", **SMALL)
    with pytest.raises(ValueError, match="Did you mean 'small'"):
        DINO(toys.info(image=8, small=8), stream="image", local="smal", **SMALL)
    with pytest.raises(ValueError, match="positions with two axes"):
        IBOT(toys.info(image=8), stream="image", **SMALL)


def test_views_in_which_nothing_is_hidden_have_no_patch_loss(toys):
    batch = views(toys)
    none = loss_of(model_of(toys, IBOT, masked_share=0.0), batch)
    assert none.metrics["patches"][0] == 0
    # What is left is the loss between views that DINO has.
    model = model_of(toys, IBOT, masked_share=0.0)
    plain = model_of(toys, DINO)
    plain.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(loss_of(model, batch).total, loss_of(plain, batch).total)
    half = loss_of(model_of(toys, IBOT, masked_share=0.5), batch)
    full = loss_of(model_of(toys, IBOT), batch)
    assert 0 < half.metrics["patches"][0] < full.metrics["patches"][0]


def test_the_patch_loss_is_the_mean_over_hidden_patches_then_views(toys):
    model, batch = model_of(toys, IBOT, hide=Blocks(0.5)), views(toys, (2, 0, 3))
    objective = model.objective("objective")
    step = toys.step(model, batch, number=10, total=100)
    step.objective = "objective"
    hidden = objective._hide(step, objective.crops.large(step))
    assert hidden.choice.hidden_lengths == (2, 0, 5, 2, 0, 5)  # half, rounded
    whole = stack_layouts([t.layout for t in objective.crops.large(step)])
    taught = model.encoder("image")(
        hidden.tokens.with_rows(torch.cat([t.values for t in batch.streams.values()]))
    ).vectors
    seen = model.encoder("image")(hidden.tokens).vectors
    total = 0.0
    for row in hidden.choice.hidden.tolist():
        target = (objective.patch_heads.student(taught[row : row + 1]) / 0.05).softmax(dim=-1)
        guess = (objective.patch_heads.student(seen[row : row + 1]) / 0.1).log_softmax(dim=-1)
        size = hidden.choice.hidden_lengths[int(whole.segment[row])]
        total += -(target * guess).sum().item() / size / 2
    found = loss_of(model, batch).metrics["patches"][0]
    # A third of the way through the warm-up of 0.3: 0.04 + 0.03 / 3.
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_the_student_does_not_see_hidden_patches(toys):
    model, batch = model_of(toys, IBOT), views(toys, (3, 3))
    objective = model.objective("objective")
    step = toys.step(model, batch)
    step.objective = "objective"
    hidden = objective._hide(step, objective.crops.large(step))
    rows = hidden.choice.hidden
    torch.testing.assert_close(
        hidden.tokens.values[rows], objective.mask.expand(len(rows), -1), atol=0, rtol=0
    )
    kept = torch.cat([t.values for t in batch.streams.values()])
    left = hidden.choice.visible
    torch.testing.assert_close(hidden.tokens.values[left], kept[left], atol=0, rtol=0)


@pytest.mark.parametrize("kind", [DINO, IBOT])
def test_samples_in_any_order_and_parts_of_the_batch_give_the_same_loss(toys, kind):
    model, batch = model_of(toys, kind), views(toys)
    whole = loss_of(model, batch).total

    def some(samples):
        streams = {n: t.take(samples) for n, t in batch.streams.items()}
        return replace(batch, streams=streams, samples=len(samples), keys=batch.keys[samples])

    torch.testing.assert_close(loss_of(model, some([2, 0, 3, 1])).total, whole)
    parts = loss_of(model, some([0, 1])).total + loss_of(model, some([2, 3])).total
    torch.testing.assert_close(parts, whole)
    assert kind.separable


@pytest.mark.parametrize("kind", [DINO, IBOT])
def test_a_few_steps_bring_the_student_near_a_teacher_that_stands_still(toys, kind):
    still = {"momentum": 1.0, "centre_momentum": 1.0, "warmup": 0.0}
    model, batch = model_of(toys, kind, **still), views(toys)
    with torch.no_grad():
        for parameter in model.encoder("image").parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    means = []
    for _ in range(30):
        loss = loss_of(model, batch)
        means.append(loss.total.item() / loss.count)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert means[-1] < 0.9 * means[0]
