"""DINO: self-distillation without labels (Caron et al., 2021)."""

from collections.abc import Mapping
from typing import Unpack

import torch

from polymodal import (
    FromRun,
    Loss,
    Model,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Teacher,
    Tokens,
    View,
    filled,
)
from polymodal_distillation.crops import Crops, by_view
from polymodal_distillation.heads import Heads
from polymodal_distillation.losses import entropy, view_loss
from polymodal_distillation.options import SelfDistillation
from polymodal_distillation.teaching import heads_of, plan_of


class DINO(Objective):
    """Predict what a slow copy of the encoder makes of another view of the sample.

    The teacher sees two views: the stream itself and a second draw of its tokenizer's random
    augmentation. The student sees these and, with `local`, small crops, all in one packed pass
    whatever their sizes. The loss of a sample is the mean cross-entropy over pairs of different
    views, and each sample is one count. The centre is a mean over the whole step, so that a batch
    may be cut into micro-batches.

    Args:
        info: the streams.
        stream: whose samples; its tokenizer's augmentation makes the views.
        local: a stream of small crops, of the same field and encoder, that the student alone sees.
        local_crops: how many of them a sample; none without `local`.
        outputs: of the head.

    Raises:
        ValueError: an unknown stream, a number out of range, or small crops with an encoder of
            their own.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        local: StreamName | None = None,
        local_crops: int = 8,
        outputs: int = 65536,
        **options: Unpack[SelfDistillation],
    ):
        super().__init__()
        found = filled(SelfDistillation, options)
        self.separable = not found["norm"]
        self.crops = Crops.of(info, stream, local, local_crops)
        self.plan = plan_of(found, found["teacher_temperature"])
        self.heads = Heads(info[stream].width, outputs=outputs, **heads_of(found))

    def attach(self, model: Model) -> None:
        """Take a slow copy of the encoder."""
        self.crops.check(model)
        self.teacher = Teacher(model.encoder(self.crops.stream))

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens will do."""
        return self.crops.needs

    def views(self) -> Mapping[str, View]:
        """Return the further views."""
        return self.crops.views

    def forward(self, step: Step) -> Loss:
        """Return the loss over samples that have the streams."""
        rows = self.crops.rows(step)
        large, small = self.crops.large(step), self.crops.small(step)
        views = [*large, *small]
        taught = self.teacher(Tokens.stack(large))
        logits = self.heads.logits(by_view(taught, rows, views=len(large)))
        if self.training and torch.is_grad_enabled():
            self.heads.centre.note(logits.flatten(0, 1))
        targets = self.heads.targets(logits, self.plan.temperature(step))
        seen = step.encode_tokens(self.crops.stream, Tokens.stack(views))
        guesses = self.heads.guesses(
            by_view(seen, rows, views=len(views)),
            self.plan.student_temperature,
            frozen=self.plan.frozen(step),
        )
        metrics = {"teacher_entropy": (entropy(targets).mean(dim=0).sum(), len(rows))}
        return Loss(view_loss(targets, guesses).sum(), len(rows), metrics)

    def count(self, step: Step) -> int:
        """Return how many samples have the streams."""
        return len(self.crops.rows(step))

    def after_update(self, step: Step) -> None:
        """Move the teacher and the centre."""
        momentum = self.plan.momentum_at(step)
        self.teacher.follow(step.encoder(self.crops.stream), momentum)
        self.heads.after_update(momentum)
