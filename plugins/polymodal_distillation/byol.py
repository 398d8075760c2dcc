"""BYOL: predict a slow copy's vector of the other view, without negatives (Grill et al., 2020)."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

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
    View,
    cosine,
)
from polymodal_contrastive import Views, projector
from polymodal_masking import scaled_cosine_error


class BYOL(Objective):
    """Predict from each of two views what a slow copy of the encoder makes of the other.

    By tokens and without a projector, as the options' defaults but `each` have it, it is BGRL
    (Thakoor et al., 2022) for the nodes of a graph; BYOL itself has a projector (dim 256, hidden
    4096) and batch norms. The loss of a row is 2 less both directions' cosines, from 0 to 4; BYOL's
    paper has twice that. Each sample or token is one count.

    Args:
        info: the streams.
        stream: whose samples.
        other: the second view, a stream of the same samples that shares the encoder; else the
            stream augmented anew.
        each: what is predicted: a "sample" (its pooled vector) or a "token".
        dim: of the projector's vectors; without it, the encoder's are predicted.
        hidden: width of the hidden layer of projector and predictor.
        norm: whether these have batch norms.
        activation: between their layers: "relu", "prelu" or "elu".
        momentum: of the slow copy at the start; it grows to 1 by a cosine.
        restart: draw the slow copy's first weights anew, by its layers' own `reset_parameters`,
            instead of copying the encoder's (BGRL's code).

    Raises:
        ValueError: an unknown stream, or a number out of range; when the model is built, streams
            with an encoder each.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        other: StreamName | None = None,
        each: Literal["sample", "token"] = "sample",
        dim: int | None = None,
        hidden: int = 512,
        norm: bool = False,
        activation: Literal["relu", "prelu", "elu"] = "prelu",
        momentum: float = 0.99,
        restart: bool = False,
    ):
        super().__init__()
        self.both = Views.of(info, stream, other, each)
        if min(hidden, 1 if dim is None else dim) < 1:
            raise ValueError(f"dim and hidden must be 1 or more, got {dim} and {hidden}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie between 0 and 1, got {momentum}")
        self.momentum = momentum
        width = info[stream].width
        out = width if dim is None else dim

        def head(before: int) -> nn.Module:
            return projector(
                [before, hidden, out], last_norm=False, norm=norm, activation=activation
            )

        self.projector = nn.Identity() if dim is None else head(width)
        self.predictor = head(out)
        self.slow_projector = Teacher(self.projector)
        # Drawn here, where weights follow from the run's seed and this objective's name.
        self.restart = int(torch.randint(2**31, (), device="cpu")) if restart else None

    def attach(self, model: Model) -> None:
        """Take a slow copy of the encoder."""
        encoder = model.encoder(self.both.stream)
        if self.both.other is not None and model.encoder(self.both.other) is not encoder:
            raise ValueError(
                f"streams {self.both.stream!r} and {self.both.other!r} must share one encoder: "
                "name it under 'encoders'"
            )
        self.slow_encoder = Teacher(encoder)
        if self.restart is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.restart)
                for module in self.slow_encoder.modules():
                    reset = getattr(module, "reset_parameters", None)
                    if reset is not None:
                        reset()

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens will do."""
        return self.both.needs

    def views(self) -> Mapping[str, View]:
        """Return the second view, if it is no stream."""
        return self.both.views

    def forward(self, step: Step) -> Loss:
        """Return the loss over the rows of samples that have the streams."""
        seen = self.both.rows(step, *self.both.encoded(step))
        slow = [self.slow_encoder(tokens) for tokens in self.both.tokens(step)]
        taught = [self.slow_projector(rows) for rows in self.both.rows(step, *slow)]
        guesses = [self.predictor(self.projector(rows)) for rows in seen]
        each = sum(
            scaled_cosine_error(guess, target, alpha=1)
            for guess, target in zip(guesses, reversed(taught), strict=True)
        )
        assert isinstance(each, torch.Tensor)
        return Loss(each.sum(), len(each))

    def count(self, step: Step) -> int:
        """Return how many rows there are."""
        return self.both.count(step)

    def after_update(self, step: Step) -> None:
        """Move the slow copies."""
        momentum = cosine(self.momentum, 1.0, step.progress)
        self.slow_encoder.follow(step.encoder(self.both.stream), momentum)
        self.slow_projector.follow(self.projector, momentum)
