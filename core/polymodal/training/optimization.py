"""One optimisation step: phases, micro-batches, gradients over ranks, clipping, the update."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from polymodal.config.shape import Config
from polymodal.ground.device import seed_generators
from polymodal.ground.distributed import any_over_ranks, placed, rank, sum_over_ranks, world_size
from polymodal.interfaces.capabilities import Phased
from polymodal.interfaces.objective import Comparison, Loss
from polymodal.interfaces.step import Step
from polymodal.model.caching import Compared, Vectors
from polymodal.model.freezing import parameter_groups
from polymodal.model.model import PretrainingModel, total_loss
from polymodal.packed.batch import Batch
from polymodal.packed.noise import hash_words
from polymodal.training.parallel import last_backward, parallel
from polymodal.training.schedule import learning_rate, weight_decay

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A scaler halves its scale at each overflow: this is 36 of them below where it begins.
_SMALLEST_SCALE = 2.0**-20
Counts = dict[str, int | float | Tensor]


class Optimization:
    """Makes a model's steps, the same ones on any number of ranks and in any micro-batches.

    Args:
        model: on its device; with several ranks it is wrapped or sharded.
        config: optimizer, trainer, and the rates of parts.
        device: of the model.
    """

    def __init__(self, model: PretrainingModel, config: Config, device: torch.device):
        self.model = model
        self.config = config
        self.device = device
        self.call = parallel(model, config.trainer.strategy, device)
        self.parameters = list(model.parameters())  # `model.zero_grad` walks all modules anew
        self.phases = {
            f"{name}/{phase}": found
            for name, objective in model.objectives.items()
            if isinstance(objective, Phased)
            for phase, found in objective.phases().items()
        }
        rate, settings = config.optimizer.learning_rate, config.optimizer
        options: dict[str, Any] = {"lr": rate, "betas": settings.betas, "eps": settings.epsilon}
        own = {name: config.objectives[name].own_update_rate for name in model.objectives}
        # Objectives with updates of their own, and their optimisers' names: unlike any phase's.
        self.apart = {name: f"{name}/" for name, each in own.items() if each is not None}
        rates = {"main": rate, **{key: own[name] or rate for name, key in self.apart.items()}}
        self.optimizers = {  # over the same weights, each with averages of its own
            key: torch.optim.AdamW(self._groups(each / rate), **options, fused=True)
            for key, each in rates.items()
        }
        for key, phase in self.phases.items():
            scale = (phase.learning_rate or rate) / rate
            group = {"params": list(phase.parameters), "scale": scale, "decays": True}
            self.optimizers[key] = torch.optim.AdamW([group], **options, fused=True)
        # The first step whose gradient was no number, -1 before. From then on nothing moves.
        self._stuck = torch.full((), -1, dtype=torch.int64, device=device)
        # A single accelerator is not waited for; ranks wait for each other in any case.
        self.waits = device.type == "cpu" or world_size() > 1
        self._number = 0
        half = config.trainer.precision == "float16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=True) if half else None

    def backward(
        self, batches: Sequence[Batch], names: Sequence[str], *, number: int, total: int
    ) -> list[dict[str, Loss]]:
        """Make the phases of a step and the updates of objectives that have their own.

        The gradients of all other objectives are left in the model for `apply`, which comes next.

        Args:
            batches: this rank's micro-batches, on the device.
            names: the step's objectives.
            number: of the step, from 0.
            total: steps of the run.

        Returns:
            The losses of each micro-batch.
        """
        self._schedule(number, total)
        self._number = number
        arguments: dict[str, Any] = {"number": number, "total": total, "seed": self.config.seed}
        for key, phase in self.phases.items():
            if key.partition("/")[0] in names:
                for update in range(phase.updates):
                    self._gradients(batches, {**arguments, "phase": key, "repeat": update})
                    self._update(key)
        found: list[list[dict[str, Loss]]] = []
        for name in names:
            if name in self.apart:
                found.append(self._gradients(batches, {**arguments, "objectives": [name]}))
                self.model.forget_absent(*self._present(batches, [name]))
                self._update(self.apart[name])
        together = self._together(names)
        if together:
            found.append(self._gradients(batches, {**arguments, "objectives": together}))
        return [dict(ChainMap(*losses)) for losses in zip(*found, strict=True)]

    def apply(self, batches: Sequence[Batch], names: Sequence[str]) -> Tensor:
        """Clip the gradients, move the weights, and return the gradients' norm before clipping."""
        self.model.forget_absent(*self._present(batches, self._together(names)))
        return self._update("main")

    def _groups(self, scale: float) -> list[dict[str, Any]]:
        """Return AdamW's groups of all that no phase keeps for itself, rates scaled."""
        kept = {id(p) for phase in self.phases.values() for p in phase.parameters}
        groups = parameter_groups(self.model, self.config)
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in kept]
            group["scale"] *= scale
        return groups

    def _together(self, names: Sequence[str]) -> list[str]:
        """Return the objectives whose losses make one update."""
        return [name for name in names if name not in self.apart]

    def _schedule(self, number: int, total: int) -> None:
        rate = learning_rate(number, total, self.config.optimizer)
        decay = weight_decay(number, total, self.config.optimizer)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["scale"] * rate
                group["weight_decay"] = decay if group["decays"] else 0.0

    def _gradients(
        self, batches: Sequence[Batch], arguments: Mapping[str, Any]
    ) -> list[dict[str, Loss]]:
        compared = self._compared(batches, arguments) if len(batches) > 1 else []
        counts = self._counts(batches, arguments, compared) if len(batches) > 1 else None
        found = []
        for place, batch in enumerate(batches):
            if compared:
                self._seed(place, arguments)
            with last_backward(self.call, place == len(batches) - 1):
                with self.autocast():
                    more = {"compared": compared[place]} if compared else {}
                    losses = self.call(batch, **arguments, **more)
                if counts is None:
                    counts = self._over_ranks({n: loss.count for n, loss in losses.items()})
                loss = total_loss(losses, self.model.weights, counts)
                if world_size() > 1:  # DDP and FSDP average over ranks what should be summed
                    loss = loss * world_size()
                (self.scaler.scale(loss) if self.scaler else loss).backward()  # type: ignore[no-untyped-call]
            found.append(losses)
        return found

    def _compared(
        self, batches: Sequence[Batch], arguments: Mapping[str, Any]
    ) -> list[dict[str, Compared]]:
        """Return what comparisons make of all micro-batches, for each; empty without any."""
        names = [
            name
            for name in arguments.get("objectives", ())
            if isinstance(self.model.objective(name), Comparison)
        ]
        if not names:
            return []
        vectors: dict[str, list[Vectors]] = {name: [] for name in names}
        asked = {**arguments, "objectives": names}
        with torch.no_grad(), self.autocast():
            for place, batch in enumerate(batches):
                self._seed(place, arguments)
                for name, each in self.model.compare(batch, **asked).items():
                    vectors[name].append(each)
            found = self.model.compare(batches[0], vectors, **asked)
        return [{name: found[name][place] for name in names} for place in range(len(batches))]

    def _seed(self, place: int, arguments: Mapping[str, Any]) -> None:
        """Let a micro-batch's dropout be the same in both of its passes."""
        seed = hash_words(self.config.seed, "micro", arguments["number"], rank(), place)
        seed_generators(seed, self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which losses are computed."""
        dtype = _DTYPES[self.config.trainer.precision]
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device.type, dtype)

    def _update(self, key: str) -> Tensor:
        optimizer = self.optimizers[key]
        if self.scaler:
            self.scaler.unscale_(optimizer)
        norm = self._clip(optimizer)
        if self.scaler:  # leaves out steps that overflow by itself
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            self._step(optimizer, norm)
        for parameter in self.parameters:  # a phase's pass reaches those of others
            parameter.grad = None
        return norm

    def _step(self, optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
        """Move the weights, unless a gradient was no number, in this update or before.

        Without waiting for an accelerator: the fused AdamW takes a flag, as gradient scalers use.
        """
        bad = ~norm.to(self.device).isfinite() & (self._stuck < 0)
        self._stuck = torch.where(bad, self._number, self._stuck)
        if self.waits:
            if int(self._stuck) < 0:
                optimizer.step()
            return
        flag: Any = optimizer
        flag.grad_scale, flag.found_inf = None, (self._stuck >= 0).float()
        optimizer.step()

    def stuck(self) -> int | None:
        """Return the first step whose gradient was not finite, or None. Waits for the device.

        The weights are those before that step. With a gradient scaler: once it can scale no lower.
        """
        if self.scaler:
            return self._number if self.scaler.get_scale() < _SMALLEST_SCALE else None
        step = int(self._stuck)
        return None if step < 0 else step

    def astray(
        self, batches: Sequence[Batch], names: Sequence[str], *, number: int, total: int
    ) -> list[str]:
        """Return the objectives whose gradient is not finite; the weights stay as they are."""
        arguments: dict[str, Any] = {"number": number, "total": total, "seed": self.config.seed}
        found = []
        for name in names:
            self._gradients(batches, {**arguments, "objectives": [name]})
            norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
            if not bool(norm.isfinite()):
                found.append(name)
            for parameter in self.parameters:
                parameter.grad = None
        return found

    def _clip(self, optimizer: torch.optim.Optimizer) -> Tensor:
        bound = self.config.optimizer.clip
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if bound is None:  # clipping at infinity would still walk all gradients once more
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:
            norm = clip_grad_norm_(parameters, bound)
        whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return whole

    def _counts(
        self,
        batches: Sequence[Batch],
        arguments: Mapping[str, Any],
        compared: Sequence[Mapping[str, Compared]],
    ) -> Counts:
        """Return each objective's targets over all micro-batches, before the first backward."""
        known = {key: arguments[key] for key in ("number", "total", "seed")}
        totals: dict[str, Any] = {}
        if compared:
            totals = {name: each.loss.count for name, each in compared[0].items()}
        others = [name for name in arguments.get("objectives", ()) if name not in totals]
        for batch in batches:
            unsure = []
            view = Step(self.model, batch, **known)
            for name in others:
                view.objective = name
                count = self.model.objective(name).count(view)
                if count is None:
                    unsure.append(name)
                else:
                    totals[name] = totals.get(name, 0) + count
            if unsure or "phase" in arguments:
                # With gradients on: an objective may take inner ones.
                losses = self.model(batch, **{**arguments, "objectives": unsure})
                for name, loss in losses.items():
                    totals[name] = totals.get(name, 0) + loss.count
        return self._over_ranks(totals)

    def _over_ranks(self, counts: Mapping[str, int | float | Tensor]) -> Counts:
        if world_size() == 1 or not counts:
            return dict(counts)
        each = [torch.as_tensor(c, dtype=torch.float64).to(self.device) for c in counts.values()]
        return dict(zip(counts, sum_over_ranks(torch.stack(each)).unbind(), strict=True))

    def _present(
        self, batches: Sequence[Batch], names: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Return the streams that had tokens and the objectives that had samples, on any rank."""
        streams = list(self.model.streams)
        flags = [any(b.streams[s].layout.tokens > 0 for b in batches) for s in streams]
        flags += [any(any(b.dealt.get(name, (True,))) for b in batches) for name in names]
        found = any_over_ranks(flags, self.device)
        kept = [part for part, flag in zip([*streams, *names], found, strict=True) if flag]
        had = sum(found[: len(streams)])
        return kept[:had], kept[had:]

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimisers' averages: "optimizer/<optimiser>/<parameter>/<entry>"."""
        names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
        return {
            f"optimizer/{key.replace('/', '.')}/{names[parameter]}/{entry}": value
            for key, optimizer in self.optimizers.items()
            for parameter, entries in optimizer.state.items()
            for entry, value in entries.items()
        }

    def load(self, tensors: Mapping[str, Tensor], scaler: Mapping[str, Any]) -> None:
        """Take back what `tensors` gave, and the scaler's state."""
        parameters = dict(self.model.named_parameters())
        optimizers = {key.replace("/", "."): each for key, each in self.optimizers.items()}
        for path, value in tensors.items():
            first, _, rest = path.partition("/")
            if first != "optimizer":
                continue
            key, name, entry = rest.split("/")
            parameter = parameters[name]
            like = parameter if value.shape == parameter.shape and entry != "step" else None
            kept = value.to(self.device) if like is None else placed(value, like)
            optimizers[key].state[parameter][entry] = kept
        if self.scaler and scaler:
            self.scaler.load_state_dict(dict(scaler))
