"""iBOT: self-distillation of the whole and of hidden patches (Zhou et al., 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Unpack

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from polymodal import (
    Candidates,
    Choice,
    FromRun,
    Hiding,
    Layout,
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
    segment_mean,
)
from polymodal_distillation.crops import Crops, by_view
from polymodal_distillation.heads import Heads
from polymodal_distillation.losses import entropy, patch_loss, view_loss
from polymodal_distillation.options import SelfDistillation
from polymodal_distillation.teaching import heads_of, plan_of
from polymodal_hiding import Blocks
from polymodal_masking import at
from polymodal_replacing import replaced


@dataclass(frozen=True, eq=False)
class Hidden:
    """What the student does not see of the large views, stacked."""

    tokens: Tokens  # as the student sees them
    choice: Choice
    layout: Layout  # of the tokens chosen
    masked: Bool[Tensor, " segment"]  # whether a view's chosen tokens are really hidden


class IBOT(Objective):
    """Predict what a slow copy makes of another view, and of patches that the student can't see.

    As `distillation.dino`, but in the large views some patches are replaced by a learned token
    before the student sees them. Beside the loss between views, the teacher's probabilities of
    each hidden patch are predicted from the same view: the mean over a view's hidden patches,
    then over the views (eq. 2 and 3). Each sample is one count. The centre of patches is the mean
    over the hidden ones, by view first, where the paper's code takes all patches; views and patches
    have a head each, which the paper may share. For any stream with values.

    Args:
        info: the streams.
        stream: whose samples; its tokenizer's augmentation makes the views.
        local: a stream of small crops, of the same field and encoder, that the student alone sees.
        local_crops: how many of them a sample; none without `local`.
        hide: which patches; 30 % of them, in rectangles, unless given.
        masked_share: share of the views in which anything is hidden.
        patch_weight: of the patches' loss; that between views has 1.
        outputs: of the head of views.
        patch_outputs: of the head of patches.
        patch_temperature: of the teacher's softmax for patches, from and to.

    Raises:
        ValueError: an unknown stream or one without values, a number out of range, or small crops
            with an encoder of their own.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        local: StreamName | None = None,
        local_crops: int = 8,
        hide: Hiding | None = None,
        masked_share: float = 1.0,
        patch_weight: float = 1.0,
        outputs: int = 8192,
        patch_outputs: int = 8192,
        patch_temperature: tuple[float, float] = (0.04, 0.07),
        **options: Unpack[SelfDistillation],
    ):
        super().__init__()
        found = filled(SelfDistillation, options)
        self.separable = not found["norm"]
        self.crops = Crops.of(info, stream, local, local_crops)
        Need(values=True).check(info, stream)
        spec = info[stream].spec
        if not 0 <= masked_share <= 1:
            raise ValueError(f"masked_share must lie from 0 to 1, got {masked_share}")
        self.spec = spec
        self.hide = hide or Blocks(0.3)
        self.hide.need().check(info, stream)
        self.hide.bind(info[stream])
        self.masked_share = masked_share
        self.patch_weight = patch_weight
        self.plan = plan_of(found, found["teacher_temperature"])
        self.patch_plan = plan_of(found, patch_temperature)
        width = info[stream].width
        self.heads = Heads(width, outputs=outputs, **heads_of(found))
        self.patch_heads = Heads(width, outputs=patch_outputs, **heads_of(found))
        self.mask = nn.Parameter(torch.randn(spec.features) * 0.02)

    def attach(self, model: Model) -> None:
        """Take a slow copy of the encoder."""
        self.crops.check(model)
        self.teacher = Teacher(model.encoder(self.crops.stream))

    def needs(self) -> Mapping[str, Need]:
        """Return the streams: values, and small crops of any kind."""
        return {**self.crops.needs, self.crops.stream: Need(values=True)}

    def views(self) -> Mapping[str, View]:
        """Return the further views."""
        return self.crops.views

    def forward(self, step: Step) -> Loss:
        """Return the loss over samples that have the streams."""
        rows = self.crops.rows(step)
        large, small = self.crops.large(step), self.crops.small(step)
        taught = self.teacher(Tokens.stack(large))
        hidden = self._hide(step, large)
        seen = step.encode_tokens(self.crops.stream, Tokens.stack([hidden.tokens, *small]))
        places, frozen = hidden.choice.hidden, self.plan.frozen(step)

        logits = self.heads.logits(by_view(taught, rows, views=2))
        targets = self.heads.targets(logits, self.plan.temperature(step))
        guesses = self.heads.guesses(
            by_view(seen, rows, views=2 + len(small)), self.plan.student_temperature, frozen=frozen
        )
        views = view_loss(targets, guesses).sum()

        patch_logits = self.patch_heads.logits(at(taught, places))
        each = patch_loss(
            self.patch_heads.targets(patch_logits, self.patch_plan.temperature(step)),
            self.patch_heads.guesses(
                at(seen, places), self.plan.student_temperature, frozen=frozen
            ),
        )
        by_segment = segment_mean(each, hidden.layout) * hidden.masked
        chosen = torch.tensor(rows, dtype=torch.int64, device=each.device)
        patches = by_segment.reshape(2, step.batch.samples)[:, chosen].mean(dim=0).sum()

        if self.training and torch.is_grad_enabled():
            self.heads.centre.note(logits.flatten(0, 1))
            present = [s for s, length in enumerate(hidden.layout.lengths) if length]
            self.patch_heads.centre.note(segment_mean(patch_logits, hidden.layout)[present])
        count = len(rows)
        metrics = {
            "teacher_entropy": (entropy(targets).mean(dim=0).sum(), count),
            "views": (views.detach(), count),
            "patches": (patches.detach(), count),
        }
        return Loss(views + self.patch_weight * patches, count, metrics)

    def count(self, step: Step) -> int:
        """Return how many samples have the streams."""
        return len(self.crops.rows(step))

    def fields(self) -> tuple[str, ...]:
        """Return the fields by which patches are chosen."""
        return self.hide.fields()

    def after_update(self, step: Step) -> None:
        """Move the teacher and the centres."""
        momentum = self.plan.momentum_at(step)
        self.teacher.follow(step.encoder(self.crops.stream), momentum)
        self.heads.after_update(momentum)
        self.patch_heads.after_update(momentum)

    def _hide(self, step: Step, large: list[Tokens]) -> Hidden:
        """Choose patches of the large views, and replace them by the learned token."""
        tokens = Tokens.stack(large)
        assert tokens.values is not None

        def noise(name: str) -> Tensor:
            return torch.cat([step.uniform(f"{name}/{v}", view) for v, view in enumerate(large)])

        samples = [*range(step.batch.samples)] * len(large)
        among = Candidates(step, self.crops.stream, tokens, self.spec, None, noise, samples)
        found = self.hide.choose(among)
        if found.origin is not None:
            raise ValueError("copies of a view can't be compared: use a hiding that makes none")
        choice = found.choice
        draws = torch.cat([step.uniform_samples(f"masked/{v}") for v in range(len(large))])
        masked = draws < self.masked_share  # of each sample in each view
        layout = tokens.layout.kept(choice.hidden, choice.hidden_lengths)[0]
        rows = choice.hidden
        swapped = replaced(tokens.values, rows, self.mask)
        shown = masked[tokens.layout.sample][:, None]
        values = torch.where(shown, swapped, tokens.values)
        return Hidden(tokens.with_rows(values), choice, layout, masked)
