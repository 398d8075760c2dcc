"""Masked region modelling: hide regions of an image and predict what they were, given a text."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    Choice,
    FromRun,
    Loss,
    Model,
    ModuleName,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
    check_ratio,
)
from polymodal_hiding import choose_each
from polymodal_masking.context import Context, at
from polymodal_masking.losses import Reduction, class_divergence, class_target
from polymodal_replacing import replaced
from polymodal_targets import patch_loss, token_loss


class MaskedRegions(Objective):
    """Hide the features of some regions and predict them, or their classes (UNITER, section 3.2).

    Each region is hidden by itself with chance `ratio`, and at least one of an image. A learned
    vector stands in the place of its features; its box stays. Each hidden region is one count. The
    head is linear, GELU, layer norm, and then linear. For any stream with values.

    Predicted are the "features", by their mean squared error (MRFR); the likeliest "class" of the
    soft labels but the background, by cross-entropy (MRC); or the "distribution" of the soft
    labels, by its divergence (MRC-kl). Soft labels are the stream's channel "classes".

    Args:
        info: the streams.
        stream: whose regions are hidden.
        target: "features", "class" or "distribution".
        ratio: chance of each region to be hidden.
        classes: columns of the soft labels, background first; needed for classes.
        reduction: of the divergence over classes: "mean" (the paper's code) or "sum" (the paper).
        head: what the features are predicted by: the transpose of the encoder's own projection
            ("tied", the paper's) or weights of its "own".
        fusion: name of a fusion through which the prediction sees the streams `given`, whole.
        given: those streams; only samples that have all of them are scored.
        fusion_width: of the fusion's vectors; the stream's unless given.
        leave_out: chance of each token of the given streams to be left out (joint masking, which
            the paper compares with).

    Raises:
        ValueError: a share out of range; a stream without values or classes; when the model is
            built, a fusion of another width or other streams; at the first step, soft labels of
            another size, or an encoder without a projection to tie to.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        target: Literal["features", "class", "distribution"] = "features",
        ratio: float = 0.15,
        classes: int | None = None,
        reduction: Reduction = "mean",
        head: Literal["tied", "own"] = "tied",
        fusion: ModuleName | None = None,
        given: list[StreamName] | None = None,
        fusion_width: int | None = None,
        leave_out: float = 0.0,
    ):
        super().__init__()
        self.context = Context.of(
            info, "masking.regions", stream, given or [], fusion, fusion_width, leave_out
        )
        labelled = target != "features"
        if labelled and (classes is None or classes < 2):
            raise ValueError(f"target {target} needs classes, 2 or more, got {classes}")
        self.need = Need(values=True, channels=("classes",) if labelled else ())
        self.need.check(info, stream)
        self.stream = stream
        self.target = target
        self.ratio = check_ratio(ratio)
        self.classes = classes
        self.reduction: Reduction = reduction
        width, features = info[stream].width, info[stream].spec.features
        self.mask = nn.Parameter(torch.randn(features) * 0.02)
        self.transform = nn.Sequential(
            nn.Linear(self.context.width, width), nn.GELU(), nn.LayerNorm(width)
        )
        self.own = self.bias = None
        if labelled or head == "own":
            self.own = nn.Linear(width, classes if labelled and classes else features)
        else:
            self.bias = nn.Parameter(torch.zeros(features))

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values and, for classes, soft labels; and the streams given."""
        return self.context.needs(self.need)

    def attach(self, model: Model) -> None:
        """Refuse a fusion that does not fit."""
        self.context.check(model)

    def uses(self) -> tuple[str, ...]:
        """Return the fusion, if there is one."""
        return self.context.uses()

    def _choose(self, step: Step, tokens: Tokens, samples: list[int] | None) -> Choice:
        noise = self.context.noise(step, "choice", samples)
        return choose_each(noise, tokens.layout, self.ratio)

    def forward(self, step: Step) -> Loss:
        """Return the loss over hidden regions."""
        samples = self.context.samples(step)
        tokens = self.context.tokens(step, samples)
        assert tokens.values is not None
        rows = self._choose(step, tokens, samples).hidden
        masked = tokens.with_rows(replaced(tokens.values, rows, self.mask))
        vectors = self.transform(at(self.context.encode(step, masked, samples), rows))
        if self.target == "features":
            each = patch_loss(self._features(step, vectors), tokens.values[rows])
            return Loss(each.sum(), len(rows))
        assert self.own is not None
        logits, soft = self.own(vectors), self._soft_labels(tokens)[rows]
        target = class_target(soft)
        total, correct = token_loss(logits, target)
        if self.target == "distribution":
            total = class_divergence(logits, soft, self.reduction).sum()
        return Loss(total, len(rows), {"accuracy": (correct, len(rows))})

    def _features(self, step: Step, vectors: Tensor) -> Float[Tensor, "hidden feature"]:
        if self.bias is None:
            assert self.own is not None
            return self.own(vectors)
        found = step.encoder(self.stream).unembed(vectors)
        if found is None:
            raise ValueError(
                f"masking.regions: the encoder of {self.stream!r} has no projection of values to "
                "tie the head to; set head: own"
            )
        return found + self.bias

    def _soft_labels(self, tokens: Tokens) -> Float[Tensor, "token class"]:
        assert self.classes is not None
        soft = tokens.layout.channels.get("classes")
        if soft is None:  # a batch without tokens may lack it
            soft = torch.zeros(tokens.layout.tokens, self.classes, device=tokens.layout.device)
        if soft.shape[1:] != (self.classes,):
            raise ValueError(
                f"masking.regions: {self.stream!r} has soft labels {list(soft.shape)}, but classes "
                f"is {self.classes}"
            )
        return soft

    def count(self, step: Step) -> int:
        """Return how many regions will be hidden."""
        samples = self.context.samples(step)
        return len(self._choose(step, self.context.tokens(step, samples), samples).hidden)
