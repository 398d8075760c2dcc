"""Step: one optimisation step's view of batch and model, handed to each objective."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.ground.distributed import gather_rows, holding_gradients, sum_over_ranks
from polymodal.interfaces.encoder import NO_TAPS, Encoder, Taps
from polymodal.interfaces.model import Model
from polymodal.packed.batch import Batch
from polymodal.packed.layout import Layout
from polymodal.packed.noise import normal, uniform
from polymodal.packed.tokens import Encoded, Tokens


class Shares(ABC):
    """Makes something of a step that others may read; an objective that does is a `Sharing`."""

    @abstractmethod
    def share(self, step: "Step") -> Any:
        """Return what it makes of a step; called once a step, whoever asks first."""


class Step:
    """What an objective sees: tokens, encoders and shared modules by name, and noise.

    Whatever is encoded through `encode` is encoded once, however many objectives ask.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        *,
        number: int = 0,
        total: int | None = None,
        seed: int = 0,
        repeat: int = 0,
    ):
        self.model = model
        self.batch = batch
        self.number = number  # of the optimisation step, from 0
        self.total = total  # how many steps the run has, if it says
        self.seed = seed
        self.repeat = repeat  # of a phase's updates within the step: each draws its own noise
        self.objective = ""  # the name of the one at work: two of a kind draw different noise
        self._own: dict[tuple[str, str], Tokens] = {}  # of samples dealt to an objective
        self._encoded: dict[tuple[str, Taps, str], Encoded] = {}
        self._shared: dict[nn.Module, Any] = {}

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.model.training

    @property
    def progress(self) -> float:
        """The share of the run done, 0 to 1; 0 when its length is not known."""
        return min(self.number / self.total, 1.0) if self.total else 0.0

    def tokens(self, stream: str) -> Tokens:
        """Return the tokens of a stream, or of a view "objective/name".

        An objective of a group finds the streams of the samples it was not dealt absent.
        """
        own = self.batch.dealt.get(self.objective)
        if own is None:
            return self.batch.streams[stream]
        key = (stream, self.objective)
        if key not in self._own:
            self._own[key] = self.batch.streams[stream].only(own)
        return self._own[key]

    def encoder(self, stream: str) -> Encoder:
        """Return the encoder of a stream."""
        return self.model.encoder(stream)

    def encode(self, stream: str, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the encoded stream, computed once a step for each choice of taps."""
        key = (stream, taps, self.objective if self.objective in self.batch.dealt else "")
        if key not in self._encoded:
            self._encoded[key] = self._encode(stream, taps)
        return self._encoded[key]

    def _encode(self, stream: str, taps: Taps) -> Encoded:
        return self.encode_tokens(stream, self.tokens(stream), taps=taps)

    def encode_tokens(self, stream: str, tokens: Tokens, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return other tokens (a corrupted copy, some rows) through the stream's encoder."""
        encoded: Encoded = self.encoder(stream)(tokens, taps=taps)
        return encoded

    def shared(self, objective: nn.Module) -> Any:
        """Return what an objective makes of this step for all to read (`Sharing.share`), once.

        Its noise is drawn in that objective's name, whoever asks first.
        """
        if not isinstance(objective, Shares):
            raise TypeError(f"{type(objective).__name__} shares nothing: it is no Sharing")
        if objective not in self._shared:
            asking = self.objective
            if asking:  # a step made by hand may name none
                names = {each: name for name, each in self.model.objectives.items()}
                self.objective = names[objective]
            self._shared[objective] = objective.share(self)
            self.objective = asking
        return self._shared[objective]

    def module(self, name: str) -> nn.Module:
        """Return a shared module of the config's `modules`, a fusion for example."""
        return self.model.module(name)

    def rows_with(self, *streams: str) -> list[int]:
        """Return the samples that have tokens in all of these streams, ascending; host only."""
        present = [self.tokens(stream).layout.present for stream in streams]
        return [row for row in range(self.batch.samples) if all(p[row] for p in present)]

    def labels(self, field: str) -> tuple[object, ...]:
        """Return a field of each sample, None where it is missing or another objective's."""
        values = self.batch.fields[field]
        own = self.batch.dealt.get(self.objective)
        if own is None:
            return values
        return tuple(v if mine else None for v, mine in zip(values, own, strict=True))

    def uniform(self, name: str, tokens: Tokens) -> Float[Tensor, " token"]:
        """Return noise in [0, 1) for each token of this batch's samples, in order.

        Hashed from (seed, step, objective, name, sample, place): the same on any number of ranks
        and in any packing, so nothing random needs saving.
        """
        return uniform(self.batch.keys, tokens.layout, **self._draw(name))

    def uniform_samples(self, name: str) -> Float[Tensor, " sample"]:
        """Return noise in [0, 1) for each sample of the batch."""
        one = Layout.of([1] * self.batch.samples).to(self.batch.keys.device)
        return uniform(self.batch.keys, one, **self._draw(name))

    def normal(self, name: str, tokens: Tokens, width: int) -> Float[Tensor, "token width"]:
        """Return standard normal noise, `width` numbers for each token; hashed like `uniform`."""
        return normal(self.batch.keys, tokens.layout, width, **self._draw(name))

    def _draw(self, name: str) -> dict[str, Any]:
        """What noise is hashed from, beside samples and places."""
        again = f"/{self.repeat}" if self.repeat else ""
        name = f"{self.objective}/{name}{again}"
        return {"seed": self.seed, "step": self.number, "name": name}

    def gather(self, rows: Float[Tensor, "row width"]) -> Float[Tensor, "all_rows width"]:
        """Return the rows of all ranks, first rank first, with gradients back to each."""
        # In evaluation each rank goes through all the data by itself.
        return gather_rows(rows) if self.training else rows

    def sum(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the sum of a tensor over all ranks, without gradients."""
        return sum_over_ranks(values) if self.training else values

    def grad(self, output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return d output / d inputs inside a forward pass; zero where nothing depends on it."""
        with holding_gradients(self.model):
            found = torch.autograd.grad(output, list(inputs), retain_graph=True, allow_unused=True)
        pairs = zip(found, inputs, strict=True)
        return tuple(torch.zeros_like(i) if g is None else g for g, i in pairs)
