import pytest
import torch
from torch import nn

from polymodal import Loss, Need, Objective, Teacher
from polymodal.testing import toy_batch, toy_model


class Follow(Objective):
    """Predict a slow copy's vectors."""

    def needs(self):
        return {"patches": Need()}

    def attach(self, model):
        if model.encoder("patches").width != 32:
            raise ValueError("the width must be 32")
        self.teacher = Teacher(model.encoder("patches"))

    def forward(self, step):
        wanted = self.teacher(step.tokens("patches")).pooled_rows()
        found = step.encode("patches").pooled_rows()
        return Loss((found - wanted).square().sum(), len(found))

    def after_update(self, step):
        self.teacher.follow(step.encoder("patches"), 0.5)


def test_a_teacher_starts_as_a_copy_and_moves_by_its_momentum():
    model = toy_model(Follow(), ["patches"])
    student, teacher = model.encoder("patches"), model.objective("checked").teacher
    before = [p.clone() for p in teacher.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 1.0
    teacher.follow(student, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    teacher.follow(student, 0.75)
    for old, new in zip(before, teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)
    teacher.follow(student, 0.0)
    for new, other in zip(teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new, other)


def test_a_teacher_gets_no_gradient_and_is_saved_with_the_objective():
    model = toy_model(Follow(), ["patches"])
    with torch.no_grad():
        for parameter in model.encoder("patches").parameters():
            parameter += 0.1  # else the loss is 0, and so is every gradient
    loss = model(toy_batch(["patches"]))["checked"]
    loss.total.backward()
    teacher = model.objective("checked").teacher
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert any(p.grad.any() for p in model.encoder("patches").parameters())
    assert any(name.startswith("objectives.checked.teacher") for name in model.state_dict())


def test_dropout_is_off_in_a_teacher_and_batch_norm_works_on_the_batch():
    student = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    teacher = Teacher(student)
    rows = torch.randn(8, 4)
    found = teacher(rows)
    torch.testing.assert_close(found, teacher(rows))
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(4), atol=1e-6, rtol=0)
    teacher.eval()
    assert not any(module.training for module in teacher.modules())


def test_what_attach_refuses_names_the_objective():
    class Refuses(Follow):
        def attach(self, model):
            raise ValueError("the width must be 16")

    with pytest.raises(ValueError, match=r"objectives\.checked: the width must be 16"):
        toy_model(Refuses(), ["patches"])
