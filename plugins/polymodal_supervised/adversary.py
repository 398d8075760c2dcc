"""Adversary: a head that looks for a concept, and an encoder trained to leave it nothing."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Unpack

import torch
from torch import Tensor, nn

from polymodal import (
    FieldName,
    FromRun,
    Loss,
    Model,
    Need,
    Phase,
    Phased,
    Pooler,
    Step,
    StreamInfo,
    StreamName,
    filled,
)
from polymodal_contrastive import BatchNorm
from polymodal_supervised.concept import ConceptOptions, ConceptReader, scored
from polymodal_supervised.labels import head
from polymodal_supervised.reversal import gradient_reversal, ramp

CHECK_EVERY = 100  # steps between looks at how the adversary does
ALARM = 2.0  # times the loss of guessing: the adversary is not blind but wrong


@dataclass(frozen=True)
class Game:
    """How encoder and adversary play."""

    alpha: float  # weight of the reversed gradient
    steps: int  # the adversary's own for one of the encoder; 0: both move together
    hidden: int | None  # width of the adversary's hidden layer; None: it is linear
    standardize: bool  # features to mean 0 and deviation 1 before the adversary
    push: "Push"  # what moves the encoder


Push = Literal["reversed", "uniform"]

PRESETS: Final = {
    "official": Game(alpha=1.0, steps=0, hidden=None, standardize=False, push="reversed"),
    "strong": Game(alpha=5.0, steps=5, hidden=64, standardize=True, push="uniform"),
}


class Adversary(Phased):
    """Make a concept hard to read off an encoder (CausaLM, Feder et al., 2021, section 4).

    A head predicts the concept from the encoder's vectors; through gradient reversal the encoder is
    trained to make it fail. With the preset "official" (the paper's code) a linear head takes the
    same steps as the encoder. The encoder often wins by making that head wrong, which hides
    nothing: a loss far above that of guessing is a failure, and is warned of. With "strong" a head
    with a hidden layer first takes steps of its own (a phase), on standardised features, and the
    encoder is moved towards where that head answers every class alike (Tzeng et al., 2015): of a
    head that is always right, the reversed gradient is next to nothing.

    The loss is the adversary's, whatever moves the encoder; so is the metric `accuracy`. Whether
    the concept is gone, only a fresh probe can tell.

    Args:
        info: the streams.
        stream: whose vectors.
        label: field that holds a class of the sample; with `words` a list of them, one a word.
        classes: their names, or how many: then they are numbered as they come.
        pool: the sample's vector that the adversary sees; the encoder's own unless given. Whoever
            reads single tokens later may find there what a mean hides: `pooling.attention` looks.
        preset: "official" or "strong", from which the options below are taken unless given.
        alpha: weight of the reversed gradient.
        adversary_steps: of its own for one of the encoder; 0: both move together.
        adversary_hidden: width of its hidden layer; 0 for a linear one.
        adversary_rate: its learning rate in steps of its own; the optimizer's unless given.
        standardize: features to mean 0 and deviation 1 over the batch, before the adversary.
        push: what moves the encoder: the adversary's gradient "reversed", or the divergence of its
            answers from a "uniform" one, which needs steps of its own.
        alpha_ramp: raise alpha over the run from 0 to what is given (Ganin and Lempitsky, 2015).

    Raises:
        ValueError: options that contradict each other or are out of range, or fewer than two
            classes; in a step a DataError for a label that is no class, or fewer labels than words.
    """

    level: Tensor

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        label: FieldName,
        classes: list[str] | int | None = None,
        pool: Pooler | None = None,
        preset: Literal["official", "strong"] = "official",
        alpha: float | None = None,
        adversary_steps: int | None = None,
        adversary_hidden: int | None = None,
        adversary_rate: float | None = None,
        standardize: bool | None = None,
        push: Push | None = None,
        alpha_ramp: bool = False,
        **concept: Unpack[ConceptOptions],
    ):
        super().__init__()
        self.reader = ConceptReader(
            info,
            stream=stream,
            label=label,
            classes=classes,
            pool=pool,
            **filled(ConceptOptions, concept),
        )
        game = PRESETS[preset]
        given = {
            "alpha": alpha,
            "steps": adversary_steps,
            "standardize": standardize,
            "push": push,
        }
        changes: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        if adversary_hidden is not None:
            changes["hidden"] = adversary_hidden or None
        self.game = replace(game, **changes)
        self.guess = math.log(self.reader.names.size)
        if self.game.alpha < 0 or self.game.steps < 0 or (self.game.hidden or 1) < 1:
            raise ValueError(
                "alpha, adversary_steps and adversary_hidden must not be negative, got "
                f"{self.game.alpha}, {self.game.steps} and {self.game.hidden}"
            )
        if self.game.push == "uniform" and not self.game.steps:
            raise ValueError(
                "push uniform needs adversary_steps: without steps of its own the adversary would "
                "learn to answer every class alike"
            )
        self.adversary_rate = adversary_rate
        self.alpha_ramp = alpha_ramp
        self.separable = not self.game.standardize
        width = info[stream].width
        norm = BatchNorm(width, affine=False) if self.game.standardize else nn.Identity()
        self.head = nn.Sequential(
            norm, head(width, self.reader.names.size, hidden=self.game.hidden, dropout=0.0)
        )
        self.register_buffer("level", torch.zeros(()))  # a slow mean of its loss
        self._seen: tuple[Tensor, int] | None = None
        self._warned = False

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with words if their labels are read."""
        return {self.reader.stream: self.reader.need}

    def attach(self, model: Model) -> None:
        """Refuse a `masked` that hides nothing of the stream."""
        self.reader.check(model)

    def fields(self) -> tuple[str, ...]:
        """Return the field that holds the labels."""
        return (self.reader.label,)

    def phases(self) -> Mapping[str, Phase]:
        """Return the adversary's own steps, if it takes any."""
        if not self.game.steps:
            return {}
        parameters = list(self.parameters())
        return {"adversary": Phase(parameters, self.game.steps, self.adversary_rate)}

    def phase_loss(self, step: Step, phase: str) -> Loss:
        """Return the adversary's cross-entropy; the encoder stands still."""
        with torch.no_grad():
            found = self.reader.find(step)
        each, _ = scored(self.head(self.reader(found)), found.target)
        return Loss(each.sum(), len(each))

    def forward(self, step: Step) -> Loss:
        """Return the adversary's cross-entropy, whose gradient makes the encoder hide."""
        found = self.reader.find(step)
        alpha = self.game.alpha * (ramp(step.progress) if self.alpha_ramp else 1.0)
        if self.game.push == "reversed":
            reversed_vectors = replace(
                found.encoded,
                vectors=gradient_reversal(found.encoded.vectors, alpha),
                pooled=gradient_reversal(found.encoded.pooled, alpha),
            )
            found = replace(found, encoded=reversed_vectors)
        logits = self.head(self.reader(found))
        each, right = scored(logits, found.target)
        total = each.sum()
        self._seen = (total.detach(), len(each))
        if self.game.push == "uniform":
            spread = -alpha * logits.float().log_softmax(dim=1).mean(dim=1).sum()
            total = total.detach() + spread - spread.detach()
        return Loss(total, len(each), {"accuracy": (right, len(each))})

    def after_update(self, step: Step) -> None:
        """Follow the adversary's loss, and warn once if the encoder makes it wrong, not blind."""
        if self._seen is not None and self._seen[1]:
            found = self._seen[0] / self._seen[1]
            self.level.lerp_(found.to(self.level), 0.05 if step.number else 1.0)
        self._seen = None
        if (step.number + 1) % CHECK_EVERY == 0 and not self._warned:
            level = float(self.level)
            if level > ALARM * self.guess:
                self._warned = True
                warnings.warn(
                    f"The adversary of {self.reader.label!r} has a loss of {level:.2f} at step "
                    f"{step.number + 1}, where guessing has {self.guess:.2f}: the encoder makes it "
                    "wrong instead of blind, and a fresh probe will find the concept. Set preset "
                    "to strong, or give the adversary more steps and a hidden layer",
                    stacklevel=2,
                )
