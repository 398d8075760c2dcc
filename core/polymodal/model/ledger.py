"""The cost ledger: what each objective and each shared encoding costs, and how gradients agree.

In one step of `trainer.ledger_every` a pass of its own is made before the step's, on the step's
batch. Nothing of it stays: no gradient, no state, no random number.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.interfaces.encoder import Taps
from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel, total_loss
from polymodal.packed.batch import Batch
from polymodal.packed.tokens import Encoded

Gradient = dict[str, Tensor]


class Ledger:
    """Measures some steps of a run, a pair of objectives' gradients in turn.

    A sampled pass costs a forward pass, a backward pass of what each objective does by itself, and
    at most two backward passes through the shared encodings, whatever the number of objectives.

    Args:
        model: not sharded.
        every: measure each so many-th step; none unless given.
        autocast: makes the context in which losses are computed.
        device: of the model.
    """

    def __init__(
        self,
        model: PretrainingModel,
        every: int | None,
        autocast: Callable[[], AbstractContextManager[object]],
        device: torch.device,
    ):
        self.model = model
        self.every = every
        self.autocast = autocast
        self.device = device
        self._last: float | None = None  # when the last lap ended; None in steps not measured
        self._laps: dict[str, float] = {}
        self._measured: dict[str, Any] = {}

    def begin(self, number: int) -> None:
        """Start the clock of a step, if it is one to measure."""
        due = self.every is not None and (number + 1) % self.every == 0
        self._last = self._now() if due else None
        self._laps = {}

    def lap(self, name: str) -> None:
        """Give the time since the last lap a name."""
        if self._last is not None:
            now = self._now()
            self._laps[name] = now - self._last
            self._last = now

    def measure(self, batch: Batch, names: Sequence[str], number: int, **arguments: Any) -> None:
        """Measure the parts of a batch by a pass of its own, if the step is one to measure.

        Args:
            batch: the step's first micro-batch, on the device.
            names: the step's objectives.
            number: of the step, from 0.
            arguments: total and seed of the step.
        """
        if self._last is None or self.every is None:
            return
        pair = _turn(names, (number + 1) // self.every - 1)
        with _untouched(self.model, self.device):
            self._measured = self._measure(batch, names, pair, {**arguments, "number": number})
        self._last = self._now()

    def end(self, number: int, micro_batches: int) -> dict[str, Any] | None:
        """Return what was measured in the step, None if it was not one to measure.

        "objectives" and "encodings" have, by name, "tokens", seconds "forward" and "backward", and
        "saved", the bytes kept for the backward pass, of one micro-batch. The objectives in turn
        also have a "gradient_norm", of their mean loss times its weight over all they train; two
        of them have their "cosine". "seconds" are those of the whole step, by lap.
        """
        if self._last is None:
            return None
        step = {"step": number + 1, "micro_batches": micro_batches, "seconds": self._laps}
        return {**step, **self._measured}

    def _measure(
        self,
        batch: Batch,
        names: Sequence[str],
        pair: Sequence[str],
        arguments: Mapping[str, Any],
    ) -> dict[str, Any]:
        weights = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        step = _MeteredStep(self.model, batch, self._now, **arguments)
        objectives: dict[str, dict[str, Any]] = {}
        losses = {}
        for name in names:
            step.objective = name
            read = [s for s in self.model.objective(name).needs() if s in batch.streams]
            before = step.seconds()
            with self.autocast(), (saved := _Saved(self.model)):
                began = self._now()
                found = {name: self.model.objective(name)(step)}
                losses[name] = total_loss(found, self.model.weights)
                elapsed = self._now() - began
            objectives[name] = {
                "tokens": sum(batch.streams[s].layout.tokens for s in read),
                "forward": elapsed - (step.seconds() - before),
                "saved": saved.bytes,
            }
        gradients: dict[str, Gradient] = {}
        for name, loss in losses.items():
            began = self._now()
            gradient = step.backward(loss, weights, name if name in pair else None)
            objectives[name]["backward"] = self._now() - began
            if name in pair:
                gradients[name] = gradient
        for encoding in step.encodings:
            for owner, received in encoding.received(pair):
                began = self._now()
                gradient = encoding.backward(received, weights)
                encoding.seconds["backward"] = self._now() - began
                if owner is not None:
                    gradients[owner] = _sum(gradients[owner], gradient)
        for name, gradient in gradients.items():
            objectives[name]["gradient_norm"] = float(_dot(gradient, gradient) ** 0.5)
        record: dict[str, Any] = {"objectives": objectives, "encodings": step.costs()}
        if len(pair) == 2:
            one, other = (gradients[name] for name in pair)
            norms = (_dot(one, one) * _dot(other, other)) ** 0.5
            cosine = float(_dot(one, other) / norms) if norms > 0 else None
            record["cosine"] = {"of": list(pair), "value": cosine}
        return record

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _turn(names: Sequence[str], number: int) -> tuple[str, ...]:
    pairs: list[tuple[str, ...]] = list(combinations(names, 2)) or [tuple(names)]
    return pairs[number % len(pairs)]


@dataclass(eq=False)
class _Encoding:
    """A shared encoding: what it gave, and the leaves that objectives saw instead."""

    stream: str
    tokens: int
    outputs: list[Tensor] = field(default_factory=list)
    leaves: list[Tensor] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    saved: int = 0
    grads: dict[str | None, list[Tensor]] = field(default_factory=dict)  # at the leaves

    def leaf(self, rows: Tensor) -> Tensor:
        found = rows.detach().requires_grad_(rows.requires_grad)
        if rows.requires_grad:
            self.outputs.append(rows)
            self.leaves.append(found)
        return found

    def received(self, pair: Sequence[str]) -> list[tuple[str | None, list[Tensor]]]:
        """Return the gradients of the pair in turn; where it has none, those of all others."""
        owners: list[str | None] = [name for name in pair if name in self.grads]
        return [(owner, self.grads[owner]) for owner in owners or self.grads]

    def backward(self, received: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Gradient:
        found = torch.autograd.grad(
            self.outputs, list(weights.values()), received, allow_unused=True, retain_graph=True
        )
        return {n: g for n, g in zip(weights, found, strict=True) if g is not None}


class _MeteredStep(Step):
    """A step whose shared encodings are leaves: an objective's gradient stops there."""

    def __init__(
        self, model: PretrainingModel, batch: Batch, now: Callable[[], float], **arguments: Any
    ):
        super().__init__(model, batch, **arguments)
        self._now = now
        self.encodings: list[_Encoding] = []

    def _encode(self, stream: str, taps: Taps) -> Encoded:
        tokens = self.tokens(stream)
        made = _Encoding(stream, tokens.layout.tokens)
        with (saved := _Saved(self.model)):
            began = self._now()
            real = super()._encode(stream, taps)
            made.seconds["forward"] = self._now() - began
        made.saved = saved.bytes
        self.encodings.append(made)
        return replace(
            real,
            vectors=made.leaf(real.vectors),
            pooled=made.leaf(real.pooled),
            hidden={number: made.leaf(rows) for number, rows in real.hidden.items()},
            attention={
                number: tuple(map(made.leaf, maps)) for number, maps in real.attention.items()
            },
        )

    def seconds(self) -> float:
        """Return the seconds that forward passes of shared encodings took so far."""
        return sum(each.seconds["forward"] for each in self.encodings)

    def backward(self, loss: Tensor, weights: Mapping[str, Tensor], owner: str | None) -> Gradient:
        """Return what reaches weights without an encoding; keep what reaches the encodings.

        That of an `owner` is kept apart, all others' is added up.
        """
        if not loss.requires_grad:
            return {}
        leaves = [leaf for each in self.encodings for leaf in each.leaves]
        found = torch.autograd.grad(
            loss, [*weights.values(), *leaves], allow_unused=True, retain_graph=True
        )
        at_leaves = iter(found[len(weights) :])
        for each in self.encodings:
            grads = [next(at_leaves) for _ in each.leaves]
            if any(grad is not None for grad in grads):
                pairs = zip(each.leaves, grads, strict=True)
                full = [torch.zeros_like(leaf) if g is None else g for leaf, g in pairs]
                old = each.grads.get(owner)
                each.grads[owner] = full if old is None else [*map(torch.add, old, full)]
        own = zip(weights, found[: len(weights)], strict=True)
        return {name: grad for name, grad in own if grad is not None}

    def costs(self) -> dict[str, dict[str, Any]]:
        """Return what the encodings of each stream cost together."""
        found: dict[str, dict[str, Any]] = {}
        for each in self.encodings:
            line = found.setdefault(
                each.stream, {"tokens": 0, "forward": 0.0, "backward": 0.0, "saved": 0}
            )
            line["tokens"] += each.tokens
            line["saved"] += each.saved
            for key, seconds in each.seconds.items():
                line[key] += seconds
        return found


class _Saved(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes kept for the backward pass, beside weights, each storage once."""

    def __init__(self, model: nn.Module):
        self.bytes = 0
        self._seen = {p.untyped_storage().data_ptr() for p in model.parameters()}
        super().__init__(self._keep, lambda kept: kept)

    def _keep(self, kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return kept


@contextmanager
def _untouched(model: PretrainingModel, device: torch.device) -> Iterator[None]:
    """Put the model's buffers and torch's generators back afterwards."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])


def _sum(one: Gradient, other: Gradient) -> Gradient:
    return {**one, **{n: one[n] + g if n in one else g for n, g in other.items()}}


def _dot(one: Gradient, other: Gradient) -> Tensor:
    parts = [(one[n].double() * other[n].double()).sum() for n in one.keys() & other.keys()]
    return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)


def summarize(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of a run's measured steps.

    "parts" are lines with "part", "of" ("objective", "encoding" or "step"), "tokens", "forward",
    "backward" and "seconds" of a step, its "share" of the step, "saved" bytes and "gradient_norm"
    (None where it was not measured); "step" is the seconds of the whole step, "sum" those of its
    parts; "cosines" has "of", "value" and "samples".
    """
    step = mean([sum(record["seconds"].values()) for record in records])
    parts = []
    for kind, section in (("objective", "objectives"), ("encoding", "encodings")):
        for name in dict.fromkeys(name for record in records for name in record[section]):
            found = [(r[section][name], r["micro_batches"]) for r in records if name in r[section]]
            line: dict[str, Any] = {"part": name, "of": kind}
            for key in ("tokens", "forward", "backward"):
                line[key] = sum(each[key] * times for each, times in found) / len(records)
            line["seconds"] = line["forward"] + line["backward"]
            line["saved"] = max(each["saved"] for each, _ in found)
            norms = [each["gradient_norm"] for each, _ in found if "gradient_norm" in each]
            line["gradient_norm"] = mean(norms) if norms else None
            parts.append(line)
    for lap in ("waiting", "moving", "update"):
        seconds = mean([record["seconds"][lap] for record in records])
        parts.append({"part": lap, "of": "step", "seconds": seconds})
    for line in parts:
        line["share"] = line["seconds"] / step
    cosines: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        if record.get("cosine", {}).get("value") is not None:
            cosines.setdefault(tuple(record["cosine"]["of"]), []).append(record["cosine"]["value"])
    return {
        "measured_steps": len(records),
        "step": step,
        "sum": sum(line["seconds"] for line in parts),
        "parts": parts,
        "cosines": [
            {"of": list(pair), "value": mean(values), "samples": len(values)}
            for pair, values in cosines.items()
        ],
    }
