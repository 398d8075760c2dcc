"""PretrainingModel: encoders, shared modules and objectives as one plain module."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from operator import add
from typing import Any, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.ground.distributed import is_shard, world_size
from polymodal.interfaces.capabilities import Asking, Phased, Representing
from polymodal.interfaces.component import StreamInfo
from polymodal.interfaces.encoder import Encoder
from polymodal.interfaces.method import Method
from polymodal.interfaces.model import Model
from polymodal.interfaces.objective import Comparison, Loss, Objective, View
from polymodal.interfaces.step import Step
from polymodal.model.caching import Compared, Vectors, compare_all
from polymodal.packed.batch import Batch
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Encoded, Tokens


class PretrainingModel(Model):
    """Everything that is trained; `model(batch)` returns each objective's loss as a sum.

    Usable in any loop: `total_loss(losses, model.weights)` is what to call backward on.

    Args:
        streams: the name of each stream's encoder.
        encoders: encoders by name; several streams may share one.
        specs: what each stream's tokens are like.
        modules: fusions, decoders and the like that objectives share, by name.
        objectives: pre-training tasks by name.
        weights: of the objectives in the total loss; 1 unless given.
        methods: what acts on the run; trained and saved with the model.

    Raises:
        ValueError: a method or objective that can't work with the rest of the model.
    """

    def __init__(
        self,
        streams: Mapping[str, str],
        encoders: Mapping[str, Encoder],
        specs: Mapping[str, TokenSpec],
        modules: Mapping[str, nn.Module] | None = None,
        objectives: Mapping[str, Objective] | None = None,
        weights: Mapping[str, float] | None = None,
        methods: Mapping[str, Method] | None = None,
    ):
        super().__init__()
        self.streams = dict(streams)
        self.specs = dict(specs)
        self.encoders = nn.ModuleDict(encoders)
        self.shared = nn.ModuleDict(modules or {})
        self.objectives = nn.ModuleDict(objectives or {})
        self.methods = nn.ModuleDict(methods or {})
        self.frozen: set[str] = set()  # encoders that stay in evaluation mode
        self.weights = {name: (weights or {}).get(name, 1.0) for name in self.objectives}
        for section, parts in (("methods", self.methods), ("objectives", self.objectives)):
            for name, part in parts.items():
                try:
                    cast(Method | Objective, part).attach(self)
                except ValueError as error:
                    raise ValueError(f"{section}.{name}: {error}") from error

    @property
    def info(self) -> dict[str, StreamInfo]:
        """What objectives may know of each stream."""
        return {s: stream_info(self.specs[s], self.encoder(s)) for s in self.streams}

    def objective(self, name: str) -> Objective:
        """Return an objective.

        Raises:
            KeyError: no objective has this name.
        """
        return cast(Objective, super().objective(name))

    def comparison(self, name: str) -> Comparison:
        """Return an objective that is a comparison."""
        return cast(Comparison, self.objective(name))

    def compare(
        self,
        batch: Batch,
        vectors: Mapping[str, Sequence[Vectors]] | None = None,
        *,
        objectives: Sequence[str],
        **arguments: Any,
    ) -> dict[str, Any]:
        """Return the vectors that comparisons see of a micro-batch, or what comes of all vectors.

        Args:
            batch: a micro-batch.
            vectors: of every micro-batch, by objective; those of `batch` are made unless given.
            objectives: comparisons.
            arguments: of `forward`.
        """
        step = Step(self, batch, **arguments)
        found: dict[str, Any] = {}
        for name in objectives:
            step.objective = name
            objective = self.comparison(name)
            if vectors is None:
                found[name] = objective.vectors(step)
            else:
                found[name] = compare_all(objective, step, vectors[name])
        return found

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen encoders stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen & set(self.encoders):
            self.encoders[name].eval()
        return self

    def forward(
        self,
        batch: Batch,
        *,
        number: int = 0,
        total: int | None = None,
        seed: int = 0,
        objectives: Sequence[str] | None = None,
        phase: str | None = None,
        repeat: int = 0,
        compared: Mapping[str, Compared] | None = None,
    ) -> dict[str, Loss]:
        """Return the loss of each objective (or of those named) over a batch.

        Args:
            batch: on the model's device.
            number: of the optimisation step; noise and schedules depend on it.
            total: how many steps the run has, if it says.
            seed: of the noise.
            objectives: the ones to compute; all unless given. The same on every rank.
            phase: "objective/phase": the loss of this phase instead.
            repeat: of the phase's updates in this step, from 0.
            compared: objectives that were compared over several micro-batches, of which this is
                one. They come first, so that dropout is what it was when their vectors were made.
        """
        step = Step(self, batch, number=number, total=total, seed=seed, repeat=repeat)
        losses = {}
        if phase is not None:
            step.objective, _, name = phase.partition("/")
            losses[step.objective] = cast(Phased, self.objective(step.objective)).phase_loss(
                step, name
            )
        else:
            compared = compared or {}
            names = self.objectives if objectives is None else objectives
            for name in sorted(names, key=lambda name: name not in compared):
                step.objective = name
                found = compared.get(name)
                losses[name] = (
                    self.objective(name)(step)
                    if found is None
                    else found.again(self.comparison(name), step)
                )
        if world_size() > 1 and losses:
            # DDP and FSDP wait for a gradient of every parameter; give each one a zero.
            first = next(iter(losses))
            loss = losses[first]
            losses[first] = Loss(loss.total + self.touch(), loss.count, loss.metrics)
        return losses

    def touch(self) -> Tensor:
        """Return a zero on which every trainable parameter has a (zero) gradient.

        Parameters that are in shards now have theirs from their block's own pass.
        """
        parts = [
            p.reshape(-1)[:1].sum()
            for p in self.parameters()
            if p.requires_grad and not is_shard(p)
        ]
        return (
            torch.stack([part.float() for part in parts]).sum() * 0.0
            if parts
            else (torch.zeros(()))
        )

    def beside(self, stream: str, objective: str | None) -> tuple[str, ...]:
        """Return the sample's other streams that its vector depends on; see `encode`."""
        found = None if objective is None else self.objective(objective)
        return found.beside(stream) if isinstance(found, Representing) else ()

    def encode(
        self,
        stream: str,
        tokens: Tokens,
        *,
        objective: str | None = None,
        beside: Mapping[str, Tokens] | None = None,
    ) -> Float[Tensor, "sample width"]:
        """Return a vector for each sample: pooled, or as an objective represents samples.

        Args:
            stream: whose vectors.
            tokens: of the stream.
            objective: that represents the samples; the encoder alone unless given.
            beside: the same samples' tokens in other streams; those that the objective takes in
                and that are not given count as absent.
        """
        represents = None if objective is None else self.objective(objective)
        if objective is None or not isinstance(represents, Representing):
            encoded: Encoded = self.encoder(stream)(tokens)
            return encoded.pooled_rows()
        samples, device = tokens.layout.samples, tokens.layout.device
        streams = {stream: tokens, **(beside or {})}
        for name in self.beside(stream, objective):
            if name not in streams:
                streams[name] = Tokens.absent(self.specs[name], samples).to(device)
        keys = torch.zeros(samples, dtype=torch.int64, device=device)
        step = Step(self, Batch(streams, samples, keys))
        step.objective = objective
        return represents.represent(step, stream)

    def views(self) -> dict[str, View]:
        """Return the views of all objectives, by "objective/name"."""
        return {
            f"{name}/{view}": made
            for name in self.objectives
            for view, made in self.objective(name).views().items()
        }

    def finish(self, batch: Batch, tokenizers: Mapping[str, Any]) -> Batch:
        """Let the tokenizer of each stream, or of what a view is of, finish it on the device."""
        streams = {}
        for name, tokens in batch.streams.items():
            tokenizer = tokenizers.get(self._viewed.get(name, name))
            streams[name] = tokens if tokenizer is None else tokenizer.finish(tokens)
        return replace(batch, streams=streams)

    def forget_absent(self, present: Iterable[str], objectives: Iterable[str]) -> None:
        """Drop the gradients of parts that no token of a step could reach.

        A zero gradient would let AdamW move them by momentum and decay; None leaves them alone.

        Args:
            present: streams that had tokens in the step, on any rank.
            objectives: those computed in the step.
        """
        present, objectives = set(present), set(objectives)
        reached = {"methods"}  # and the names of encoders, modules and objectives in use
        for name in objectives:
            objective = self.objective(name)
            read = set(objective.needs())
            if not read & present:
                continue
            asked = objective.shares() if isinstance(objective, Asking) else ()
            reached |= {f"objectives.{each}" for each in (name, *asked)}
            reached |= {f"shared.{used}" for used in objective.uses()}
            reached |= {f"encoders.{self.streams[stream]}" for stream in read & present}
        for part, parameters in self._parts.items():
            if part not in reached:
                for parameter in parameters:
                    parameter.grad = None

    @cached_property
    def _viewed(self) -> dict[str, str]:
        """The stream that each view is of."""
        return {name: view.stream for name, view in self.views().items()}

    @cached_property
    def _parts(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each part, "encoders.image" say, and of all methods."""
        parts: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            section, part, _ = name.split(".", 2)
            key = section if section == "methods" else f"{section}.{part}"
            parts.setdefault(key, []).append(parameter)
        return parts


def stream_info(spec: TokenSpec, encoder: Encoder) -> StreamInfo:
    """Return what objectives may know of a stream with this spec and encoder."""
    some = next(encoder.parameters(), None)
    none = torch.zeros(0, encoder.width) if some is None else some.new_zeros(0, encoder.width)
    with torch.no_grad():
        table = encoder.unembed(none) is not None
    return StreamInfo(spec, encoder.width, encoder.causal, table)


def total_loss(
    losses: Mapping[str, Loss],
    weights: Mapping[str, float],
    counts: Mapping[str, int | float | Tensor] | None = None,
) -> Tensor:
    """Return the weighted sum of mean losses; an objective without targets adds zero.

    Args:
        losses: of one forward pass.
        weights: by objective.
        counts: scored targets of the whole step (all ranks and micro-batches); those of `losses`
            unless given.
    """
    terms = []
    for name, loss in losses.items():
        count = loss.count if counts is None else counts[name]
        count = count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
        terms.append(weights[name] * loss.total / count)
    return reduce(add, terms)
