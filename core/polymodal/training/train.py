"""Training: one short loop over plain torch, from a config to a run directory."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from polymodal.config.shape import Config
from polymodal.data.grouping import Grouped
from polymodal.data.loader import PackedDataset, load_batches, token_counts
from polymodal.data.sampling import Draws, Mixture, Refs, batches
from polymodal.ground.device import choose_device, seed_generators
from polymodal.ground.distributed import rank, world_size
from polymodal.ground.errors import DataError
from polymodal.ground.progress import ProgressReport
from polymodal.interfaces.evaluation import Score
from polymodal.interfaces.step import Step
from polymodal.model.ledger import Ledger
from polymodal.model.metrics import Window, plain
from polymodal.model.probing import ModelProbe, run_evaluations
from polymodal.nn.average import WeightAverage
from polymodal.packed.batch import Batch
from polymodal.packed.noise import hash_words
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.origin import Origin
from polymodal.runs.build import Builder, fields_of, groups_of
from polymodal.runs.fitting import fit_tokenizers
from polymodal.runs.run import (
    RunDirectory,
    has_tokenizers,
    load_tokenizers,
    read_run_config,
    save_run_model,
    save_tokenizers,
    score_rows,
)
from polymodal.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from polymodal.training.optimization import Optimization
from polymodal.training.parallel import barrier
from polymodal.training.schedule import learning_rate

# What may differ when a run is resumed: nothing that changes what has been learnt so far.
_FREE_ON_RESUME = {"trainer", "evaluate", "trackers"}


class Training:
    """A run in progress: its parts, and where it stands.

    Args:
        config: checked.
        directory: to write to; a run already there is refused unless `resume`.
        resume: go on from the newest checkpoint, if there is one.
        origin: where config entries stand, for error messages.
        plugins: those of this environment unless given.
        quiet: show no progress.

    Raises:
        ConfigError: parts that can't be built or combined, all at once.
        DataError: missing data, or a directory that can't be used.
    """

    def __init__(
        self,
        config: Config,
        directory: str | Path,
        *,
        resume: bool = False,
        origin: Origin | None = None,
        plugins: Plugins | None = None,
        quiet: bool = False,
    ):
        self.config = config
        self.directory = RunDirectory(directory)
        self.builder = Builder(config, origin, plugins=plugins)
        self.quiet = quiet
        self.device = choose_device(config.trainer.device)
        if self.directory.holds_run:
            if not resume:
                raise DataError(
                    f"{self.directory.path} holds another run; pass --resume to go on with it, or "
                    "choose another --out"
                )
            self._check_same()
        # Everything a config can get wrong shows here, before data is read or files are written.
        self.builder.check()
        self.model = self.builder.model()
        self.evaluations = self.builder.evaluations()
        self.trackers = self.builder.trackers()
        self.sources = self.builder.sources
        self.builder.check_fields()
        self.mixture = Mixture(
            {name: source.size("train") for name, source in self.sources.items()},
            weights={name: slot.weight for name, slot in config.data.sources.items()},
            seed=config.seed,
            exponent=config.data.exponent,
            block=self._largest_batch() if config.data.batches == "one_source" else 1,
        )
        self.total = self._total_steps()
        barrier()  # every rank has looked at the directory before the first writes to it
        if rank() == 0:
            self.directory.begin(config)
            if resume and has_tokenizers(self.directory.model, self.builder.tokenizers):
                load_tokenizers(self.directory.model, self.builder.tokenizers)
            fit_tokenizers(self.builder)
            save_tokenizers(self.directory.model, self.builder.tokenizers)
        barrier()
        if rank() > 0:
            load_tokenizers(self.directory.model, self.builder.tokenizers)
        self.tokenizers = {n: r.tokenizer for n, r in self.builder.readings.items()}
        self.model.to(self.device)
        self._adjust_blocks()
        self.optimization = Optimization(self.model, config, self.device)
        self.ledger = Ledger(
            self.model, config.trainer.ledger_every, self.optimization.autocast, self.device
        )
        self.average = WeightAverage(self.model, config.trainer.ema) if config.trainer.ema else None
        self.step = 0  # optimisation steps done
        self.position = 0  # samples drawn
        self.skipped = 0
        self.window = Window()  # since the last line of metrics
        if resume:
            self._resume()

    def _check_same(self) -> None:
        old = read_run_config(self.directory.path, plugins=self.builder.plugins)
        for name in type(self.config).model_fields:
            if name not in _FREE_ON_RESUME and getattr(old, name) != getattr(self.config, name):
                ignored = {"workers", "prefetch", "max_skipped"}
                if name == "data" and old.data.model_dump(exclude=ignored) == (
                    self.config.data.model_dump(exclude=ignored)
                ):
                    continue
                raise DataError(
                    f"{self.directory.path} holds a run with another {name!r}; resume it with the "
                    "config it was started with, or choose another --out"
                )

    def _adjust_blocks(self) -> None:
        from polymodal.nn.transformer import Transformer

        for part in self.model.modules():
            if isinstance(part, Transformer):
                if not part.gradient_checkpointing:  # an encoder's own choice stands
                    part.gradient_checkpointing = self.config.trainer.gradient_checkpointing
                if self.config.trainer.compile:
                    part.compile_blocks()

    def _total_steps(self) -> int:
        trainer = self.config.trainer
        if trainer.max_steps is not None:
            return trainer.max_steps
        assert trainer.epochs is not None
        samples, steps = trainer.epochs * self.mixture.epoch_length(), 0
        while samples > 0:
            samples -= self._batch_size(steps)
            steps += 1
        return max(1, steps)

    def _batch_size(self, number: int) -> int:
        """Return the samples of a step, by its objective where that has a batch size of its own."""
        own = [self.config.objectives[name].batch_size for name in self._objectives_of(number)]
        return own[0] if len(own) == 1 and own[0] is not None else self.config.data.batch_size

    def _largest_batch(self) -> int:
        own = [slot.batch_size or 0 for slot in self.config.objectives.values()]
        return max(self.config.data.batch_size, *own)

    def _resume(self) -> None:
        found = checkpoints(self.directory.checkpoints)
        if found:
            tensors, state = load_checkpoint(found[-1], self.model)
            self.optimization.load(tensors, state["scaler"])
            if self.average:
                kept = {n.split("/")[1]: t for n, t in tensors.items() if n.startswith("average")}
                self.average.load(kept)
            self.step, self.position = state["step"], state["position"]
            self.skipped = state["skipped"]
            self.window.sums.load(state.get("unlogged", {}))
        if rank() == 0:
            self.directory.cut("metrics.jsonl", self.step)
            self.directory.cut("scores.jsonl", self.step)
            self.directory.cut("skipped.jsonl", self.step)
            self.directory.cut("ledger.jsonl", self.step)
        barrier()

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = self.optimization.tensors()
        if self.average:
            tensors |= {f"average/{name}/mean": t for name, t in self.average.averages.items()}
        scaler = self.optimization.scaler
        state = {
            "step": self.step,
            "position": self.position,
            "skipped": self.skipped,
            "unlogged": self.window.sums.totals(),
            "scaler": scaler.state_dict() if scaler else {},
        }
        keep = self.config.trainer.keep_checkpoints
        save_checkpoint(
            self.directory.checkpoints, self.step, self.model, tensors, state, keep=keep
        )

    def save_model(self) -> None:
        """Write `model/`: averaged weights where an average is kept."""
        with self.average.applied() if self.average else nullcontext():
            save_run_model(
                self.directory.model,
                self.model,
                self.config,
                self.builder.tokenizers,
                self.builder.requirements(),
            )

    def batches(self) -> Iterator[tuple[Refs, list[Batch]]]:
        """Yield each step's references and this rank's micro-batches, from where it stands."""
        config = self.config
        dataset = PackedDataset(
            list(self.sources.values()),
            self.builder.readings,
            views=self.model.views(),
            fields=fields_of(self.model),
            groups=groups_of(self.model, config),
            seed=config.seed,
        )
        lengths, window, budget = None, config.data.group_by_length, config.data.tokens
        if window is not None or budget is not None:
            lengths = [token_counts(dataset, number) for number in range(len(self.sources))]
        sequence: Draws = self.mixture
        if window is not None:
            assert lengths is not None
            size = config.data.batch_size
            sequence = Grouped(self.mixture, lengths, batch_size=size, window=window, budget=budget)
        drawn: list[Refs] = []  # read ahead by the loader's workers, not yet trained on
        parts, first = world_size() * config.trainer.accumulate, rank() * config.trainer.accumulate

        def plan() -> Iterator[Refs]:
            steps = batches(
                sequence,
                batch_sizes=map(self._batch_size, itertools.count(self.step)),
                start=self.position,
                budget=budget,
                lengths=lengths,
            )
            for refs in steps:
                drawn.append(refs)
                for micro in range(config.trainer.accumulate):
                    yield refs.part(first + micro, parts)

        loader = iter(
            load_batches(
                dataset,
                plan(),
                workers=config.data.workers,
                prefetch=config.data.prefetch,
                pin_memory=self.device.type == "cuda",
            )
        )
        while True:
            micro_batches = [next(loader) for _ in range(config.trainer.accumulate)]
            yield drawn.pop(0), micro_batches

    def run(self) -> list[dict[str, Any]]:
        """Train to the end and return the rows of the final evaluation.

        Raises:
            PolymodalError: a loss that is not finite, too many unreadable records.
        """
        hook = self.builder.plugins.hook
        with ExitStack() as stack:
            error: BaseException | None = None
            for tracker in self.trackers.values() if rank() == 0 else ():
                tracker.begin(self.config.model_dump(mode="json"), str(self.directory.path))
                stack.callback(tracker.end)
            hook.polymodal_run_started(directory=str(self.directory.path), config=self.config)
            try:
                return self._train()
            except BaseException as caught:
                error = caught
                raise
            finally:
                hook.polymodal_run_ended(directory=str(self.directory.path), error=error)

    def _train(self) -> list[dict[str, Any]]:
        config, trainer, model = self.config, self.config.trainer, self.model
        ledger = self.ledger
        report = ProgressReport(self.total, done=self.step, quiet=self.quiet or rank() > 0)
        untrained = self._untrained(report)
        model.train()
        data = self.batches()
        window = self.window = Window(self.window.sums)
        with report:
            while self.step < self.total:
                number = self.step
                ledger.begin(number)
                began = time.perf_counter()
                refs, micro_batches = next(data)
                window.waited += time.perf_counter() - began
                ledger.lap("waiting")
                # Dropout draws from torch's generator: seeding it by the step makes resuming exact.
                seed_generators(hash_words(config.seed, "step", number, rank()), self.device)
                names = self._objectives_of(number)
                for method in model.methods.values():
                    method.before_step(number, self.total)  # type: ignore[operator]
                self._note_skipped(micro_batches, refs)
                steps = [self._to_device(batch) for batch in micro_batches]
                ledger.lap("moving")
                ledger.measure(steps[0], names, number, total=self.total, seed=config.seed)
                losses = self.optimization.backward(steps, names, number=number, total=self.total)
                ledger.lap("passes")
                for batch, found in zip(steps, losses, strict=True):
                    window.add(batch, found)
                if self.device.type == "cpu":
                    window.require_finite(number, refs, self.mixture)
                norm = self.optimization.apply(steps, names)
                if self.average:
                    self.average.update()
                after = Step(model, steps[-1], number=number, total=self.total, seed=config.seed)
                for name in names:
                    after.objective = name
                    model.objective(name).after_update(after)
                for method in model.methods.values():
                    method.after_update(after)  # type: ignore[operator]
                ledger.lap("update")
                if (costs := ledger.end(number, len(steps))) and rank() == 0:
                    self.directory.append("ledger.jsonl", [costs])
                self.step, self.position = number + 1, refs.stop
                report.step(self.step)
                if self.step % trainer.log_every == 0 or self.step == self.total:
                    window.require_finite(number, refs, self.mixture)
                    self._log(window, norm, report)
                    window = self.window = Window()
                if self._due(trainer.evaluate_every):
                    self._write_scores(self.evaluate(), untrained)
                    model.train()
                if self._due(trainer.checkpoint_every):
                    self.save()
                    self.save_model()
        self.save()
        self.save_model()
        rows = self._write_scores(self.evaluate(), untrained)
        if self.skipped:
            report.say(
                f"{self.skipped} of {self.position} samples were skipped; the reasons are in "
                f"{self.directory.path / 'skipped.jsonl'}"
            )
        return rows

    def _due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0 and self.step < self.total

    def _untrained(self, report: ProgressReport) -> dict[str, list[Score]] | None:
        """Return the scores of the model before its first step, measured once a run."""
        if not self.evaluations or not self.config.trainer.evaluate_untrained:
            return None
        found = self.directory.read_json("untrained.json")
        if found is None:
            if self.step:
                return None
            report.say("measuring the untrained model")
            scores = run_evaluations(self.evaluations, self.probe())
            found = {n: [vars(s) for s in each] for n, each in scores.items()}
            if rank() == 0:
                self.directory.write_json("untrained.json", found)
        return {name: [Score(**score) for score in each] for name, each in found.items()}

    def _objectives_of(self, number: int) -> list[str]:
        names = list(self.model.objectives)
        if self.config.trainer.objectives == "all":
            return names
        weights = np.array([self.config.objectives[name].weight for name in names])
        key = hash_words(self.config.seed, "objective", number) & (2**64 - 1)
        generator = np.random.Generator(np.random.Philox(key=key))
        return [str(generator.choice(names, p=weights / weights.sum()))]

    def _to_device(self, batch: Batch) -> Batch:
        batch = batch.to(self.device, non_blocking=True) if self.device.type != "cpu" else batch
        return self.model.finish(batch, self.tokenizers)

    def _note_skipped(self, micro_batches: Sequence[Batch], refs: Refs) -> None:
        found = [each for batch in micro_batches for each in batch.skipped]
        if not found:
            return
        lines = [{"step": self.step + 1, **vars(each)} for each in found]
        self.directory.append("skipped.jsonl", lines)
        self.skipped += len(found)
        share = self.skipped * world_size() / refs.stop
        limit = self.config.data.max_skipped
        # A handful of bad records at the start says little about the share of the whole.
        if share > limit and self.skipped >= 10:
            last = found[-1]
            raise DataError(
                f"{self.skipped} of {refs.stop} samples could not be used ({share:.0%}, more than "
                f"data.max_skipped {limit:.0%}). The last: row {last.index} of {last.source!r}: "
                f"{last.reason}. All are in {self.directory.path / 'skipped.jsonl'}"
            )

    def _log(self, window: "Window", norm: Tensor, report: ProgressReport) -> None:
        seconds = time.perf_counter() - window.began
        means = window.sums.means()
        record: dict[str, Any] = {
            "step": self.step,
            "loss": {name: value for name, value in means.items() if "/" not in name},
            "metrics": {name: value for name, value in means.items() if "/" in name},
            "learning_rate": learning_rate(self.step - 1, self.total, self.config.optimizer),
            "gradient_norm": float(norm),
            "samples": self.position,
            "samples_per_second": window.samples * world_size() / seconds,
            "tokens_per_second": window.tokens * world_size() / seconds,
            "waiting": window.waited / seconds,
            "skipped": self.skipped,
        }
        record = {key: plain(value) for key, value in record.items()}
        if rank() == 0:
            self.directory.append("metrics.jsonl", [record])
            report.log(record)
            flat = {f"loss/{k}": v for k, v in record["loss"].items()}
            flat |= record["metrics"]
            flat |= {k: v for k, v in record.items() if isinstance(v, float) and k != "step"}
            for tracker in self.trackers.values():
                tracker.log(self.step, flat)

    def probe(self) -> ModelProbe:
        """Return the model as evaluations see it."""
        return ModelProbe(
            self.model,
            self.builder.readings,
            self.sources,
            device=self.device,
            batch_size=max(1, self.config.data.batch_size),
            workers=self.config.data.workers,
            seed=self.config.seed,
        )

    def evaluate(self) -> dict[str, list[Score]]:
        """Run the evaluations, on averaged weights where an average is kept."""
        with self.average.applied() if self.average else nullcontext():
            return run_evaluations(self.evaluations, self.probe())

    def _write_scores(
        self, scores: Mapping[str, list[Score]], untrained: Mapping[str, list[Score]] | None
    ) -> list[dict[str, Any]]:
        rows = score_rows(scores, untrained)
        if self.evaluations and rank() == 0:
            self.directory.write_json("evaluation.json", {"step": self.step, "scores": rows})
            values = {f"{row['evaluation']}/{row['metric']}": row["value"] for row in rows}
            self.directory.append("scores.jsonl", [{"step": self.step, "scores": values}])
            for tracker in self.trackers.values():
                tracker.log(self.step, values)
        return rows
