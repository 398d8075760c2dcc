"""Training: one short loop over plain torch, from a config to a run directory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from polymodal.config.references import with_references
from polymodal.config.shape import Config
from polymodal.data.loader import PackedDataset
from polymodal.data.sampling import Mixture, Refs
from polymodal.data.workers import worker_failure
from polymodal.ground.device import choose_device, seed_generators
from polymodal.ground.distributed import (
    any_over_ranks,
    communication_device,
    rank,
    world_size,
)
from polymodal.ground.errors import DataError, PluginError
from polymodal.ground.progress import ProgressReport
from polymodal.ground.stopping import Stop
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
from polymodal.runs.directory import RunDirectory
from polymodal.runs.fitting import fit_tokenizers
from polymodal.runs.run import (
    has_tokenizers,
    load_tokenizers,
    read_run_config,
    save_run_model,
    save_tokenizers,
)
from polymodal.training.blaming import astray, not_finite, placed
from polymodal.training.checkpoint import (
    load_checkpoint,
    newest_whole,
    save_checkpoint,
    set_aside,
)
from polymodal.training.feeding import feed
from polymodal.training.optimization import Optimization
from polymodal.training.parallel import barrier
from polymodal.training.resuming import changes, records, require_same_config, require_same_data
from polymodal.training.schedule import learning_rate
from polymodal.training.seen import Seen
from polymodal.training.telling import say_at_start, untrained_scores, write_scores


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
        self.device = choose_device(config.trainer.device)
        self.told: list[str] = []  # to be said at the start
        if self.directory.holds_run:
            if not resume:
                raise self.directory.taken()
            old = read_run_config(self.directory.path, plugins=self.builder.plugins)
            require_same_config(old, config, self.directory.path)
            if old.optimizer != config.optimizer:
                self.told.append("the optimizer's settings are not those of the run's last start")
        # Everything a config can get wrong shows here, before data is read or files are written.
        self.builder.check()
        self.model = self.builder.model()
        self.evaluations = self.builder.evaluations()
        self.trackers = self.builder.trackers()
        self.sources = self.builder.sources
        self.builder.check_fields()
        self.mixture = Mixture(
            # Of a run without steps, nothing is drawn.
            {n: s.size("train") for n, s in self.sources.items()}
            or {"": int(not config.objectives)},
            weights={name: slot.weight for name, slot in config.data.sources.items()},
            seed=config.seed,
            exponent=config.data.exponent,
            block=self._largest_batch() if config.data.batches == "one_source" else 1,
        )
        self.total = self._total_steps()
        self.warnings: list[str] = []  # what was said beside progress
        self.failed: dict[str, str] = {}  # why evaluations have no scores, the last time
        data = records(self.sources)
        self.changed = changes(self.directory.data(), data)
        if not config.trainer.changed_data:
            require_same_data(self.changed)
        barrier()  # every rank has looked at the directory before the first writes to it
        if rank() == 0:
            self.directory.begin(config, resume=resume)
            self.directory.write_json("data.json", {"sources": data})
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
        self.seen = Seen(
            list(self.sources),
            list(self.model.objectives),
            limit=config.data.max_skipped,
            device=self.device,
        )
        self.stop = Stop()
        self._saved = time.monotonic()
        self.window = Window()  # since the last line of metrics
        if resume:
            self._resume()
        self.report = ProgressReport(self.total, done=self.step, quiet=quiet or rank() > 0)

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
        own = [self.config.objectives[name].batch_size for name in self.objectives_of(number)]
        return own[0] if len(own) == 1 and own[0] is not None else self.config.data.batch_size

    def _largest_batch(self) -> int:
        own = [slot.batch_size or 0 for slot in self.config.objectives.values()]
        return max(self.config.data.batch_size, *own)

    def _resume(self) -> None:
        found, damaged = newest_whole(self.directory.checkpoints)
        self.told += [f"{each}; going on from {found}" for each in damaged]
        if found:
            tensors, state = load_checkpoint(found, self.model)
            self.optimization.load(tensors, state["scaler"])
            if self.average:
                kept = {n.split("/")[1]: t for n, t in tensors.items() if n.startswith("average")}
                self.average.load(kept)
            self.step, self.position = state["step"], state["position"]
            self.seen.load(state.get("seen"))
            self.window.sums.load(state.get("unlogged", {}))
            set_aside(self.directory.checkpoints, found)
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
            "seen": self.seen.state(),
            "unlogged": self.window.sums.totals(),
            "scaler": scaler.state_dict() if scaler else {},
        }
        keep = self.config.trainer.keep_checkpoints
        save_checkpoint(
            self.directory.checkpoints, self.step, self.model, tensors, state, keep=keep
        )
        self._saved = time.monotonic()

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

    @cached_property
    def dataset(self) -> PackedDataset:
        """What makes the batches of this run."""
        return PackedDataset(
            list(self.sources.values()),
            self.builder.readings,
            views=self.model.views(),
            fields=fields_of(self.model),
            groups=groups_of(self.model, self.config),
            seed=self.config.seed,
        )

    def batches(self) -> Iterator[tuple[Refs, list[Batch]]]:
        """Yield each step's references and this rank's micro-batches, from where it stands."""
        return feed(
            self.dataset,
            self.mixture,
            self.config,
            batch_size=self._batch_size,
            step=self.step,
            position=self.position,
            device=self.device,
        )

    def run(self) -> list[dict[str, Any]]:
        """Train to the end and return the rows of the final evaluation.

        Raises:
            PolymodalError: a loss that is not finite, too many unreadable records.
        """
        plugins, where = self.builder.plugins, str(self.directory.path)
        with ExitStack() as stack:
            stack.callback(self.directory.release)
            error: BaseException | None = None
            given = with_references(self.config.model_dump(mode="json"), self.config)
            for tracker in self.trackers.values() if rank() == 0 else ():
                tracker.begin(given, where)
                stack.callback(tracker.end)
            try:
                plugins.notify("polymodal_run_started", directory=where, config=self.config)
                return self._train()
            except BaseException as caught:
                error = worker_failure(caught) or caught
                if error is not caught:
                    raise error from caught
                raise
            finally:
                try:
                    plugins.notify("polymodal_run_ended", directory=where, error=error)
                except PluginError as failure:
                    if error is None:  # or it would hide why the run failed
                        raise
                    self.report.warn(str(failure))

    def _train(self) -> list[dict[str, Any]]:
        config, trainer, model = self.config, self.config.trainer, self.model
        ledger, report = self.ledger, self.report
        say_at_start(self)
        untrained = untrained_scores(self)
        model.train()
        data = self.batches()
        window = self.window = Window(self.window.sums)
        leave = False
        recent: list[tuple[int, Refs]] = []  # steps since the device was last waited for
        with self.stop.listening(), report:
            while self.step < self.total and not leave:
                number = self.step
                ledger.begin(number)
                began = time.perf_counter()
                refs, micro_batches = next(data)
                window.waited += time.perf_counter() - began
                ledger.lap("waiting")
                # Dropout draws from torch's generator: seeding it by the step makes resuming exact.
                seed_generators(hash_words(config.seed, "step", number, rank()), self.device)
                names = self.objectives_of(number)
                for method in model.methods.values():
                    method.before_step(number, self.total)  # type: ignore[operator]
                self._note_skipped(micro_batches, refs)
                steps = [self.to_device(batch) for batch in micro_batches]
                for name in names if world_size() == 1 else ():
                    objective = model.objective(name)
                    if not objective.separable:
                        self.seen.compare(name, list(objective.needs()), steps)
                ledger.lap("moving")
                ledger.measure(steps[0], names, number, total=self.total, seed=config.seed)
                try:
                    made = self.optimization.backward(steps, names, number=number, total=self.total)
                except DataError as error:
                    raise placed(self, error, number, refs) from error
                ledger.lap("passes")
                for batch, losses in zip(steps, made, strict=True):
                    window.add(batch, losses)
                recent.append((number, refs))
                if self.optimization.waits and (found := window.astray()):
                    raise not_finite(self, "loss", found, number, refs)
                norm = self.optimization.apply(steps, names)
                looks = self.step + 1 == self.total or (self.step + 1) % trainer.log_every == 0
                if self.optimization.waits or looks:
                    self._require_finite(recent)
                    recent.clear()
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
                if looks:
                    self._log(window, norm)
                    window = self.window = Window()
                if self._due(trainer.evaluate_every):
                    write_scores(self, self.evaluate(), untrained)
                    model.train()
                leave, late = self._asked()
                if leave or late or self._due(trainer.checkpoint_every):
                    self._require_finite(recent)
                    recent.clear()
                    self.save()
                    self.save_model()
        if leave:
            raise self.stop.raised(
                f"after step {self.step} of {self.total}; all is saved: go on with --resume"
            )
        self._judge_whole()
        self.save()
        self.save_model()
        return write_scores(self, self.evaluate(), untrained)

    def warn(self, text: str) -> None:
        """Say what should not be missed, and keep it for `warnings`."""
        self.warnings.append(text)
        if rank() == 0:
            self.report.warn(text)

    def _asked(self) -> tuple[bool, bool]:
        """Return whether a signal came, and whether a checkpoint is late, on any rank alike."""
        minutes = self.config.trainer.checkpoint_minutes
        late = minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        flags = [self.stop.signal is not None, late and self.step < self.total]
        leave, late = any_over_ranks(flags, communication_device())
        return leave, late

    def _require_finite(self, recent: Sequence[tuple[int, Refs]]) -> None:
        """Stop if a step since the last look had a gradient or a loss that is no number.

        Raises:
            PolymodalError: naming the step, the objectives and the samples.
        """
        step = self.optimization.stuck()
        for number, refs in recent:
            if number == step:
                found = self.window.astray()
                what = "loss" if found else "gradient"
                raise not_finite(self, what, found or astray(self, number, refs), number, refs)
        if not self.optimization.waits and recent and (found := self.window.astray()):
            raise not_finite(self, "loss", found, *recent[-1])

    def _judge_whole(self) -> None:
        """Look at what the whole run has seen, before its model is called trained.

        Raises:
            DataError: a source was too broken, or nothing was trained.
        """
        where = str(self.directory.path / "skipped.jsonl")
        try:
            doubts = self.seen.judge(where, ended=True)
            without = self.seen.without_targets() if self.step else []
        except DataError as error:
            self.save()
            raise DataError(
                f"{error}. The last step is saved as a checkpoint, but no model: with a higher "
                "data.max_skipped, --resume accepts what was skipped"
            ) from error
        for text in doubts:
            self.warn(text)
        for text in self.seen.alone():
            self.warn(text)
        for name in without:
            self.warn(f"objective {name!r} never had a target: nothing was learnt by it")
        skipped = sum(self.seen.skipped().values())
        if skipped and not doubts:
            self.report.say(
                f"{skipped} of {self.position} samples were skipped; the reasons are in {where}"
            )

    def _due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0 and self.step < self.total

    def objectives_of(self, number: int) -> list[str]:
        """Return the names of a step's objectives."""
        names = list(self.model.objectives)
        if self.config.trainer.objectives == "all":
            return names
        weights = np.array([self.config.objectives[name].weight for name in names])
        key = hash_words(self.config.seed, "objective", number) & (2**64 - 1)
        generator = np.random.Generator(np.random.Philox(key=key))
        return [str(generator.choice(names, p=weights / weights.sum()))]

    def to_device(self, batch: Batch) -> Batch:
        """Return a batch of the loader as a step takes it."""
        batch = batch.to(self.device, non_blocking=True) if self.device.type != "cpu" else batch
        return self.model.finish(batch, self.tokenizers)

    def _note_skipped(self, micro_batches: Sequence[Batch], refs: Refs) -> None:
        found = [each for batch in micro_batches for each in batch.skipped]
        self.seen.add(refs, found)
        if found:
            lines = [{"step": self.step + 1, **vars(each)} for each in found]
            self.directory.append("skipped.jsonl", lines)
            if world_size() == 1:  # ranks judge together, when they log
                self.seen.judge(str(self.directory.path / "skipped.jsonl"))

    def _log(self, window: Window, norm: Tensor) -> None:
        seconds = time.perf_counter() - window.began
        totals = window.sums.totals()
        self.seen.score(totals)
        means = window.sums.means(totals)
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
            "skipped": sum(self.seen.skipped().values()),
        }
        record = {key: plain(value) for key, value in record.items()}
        if rank() == 0:
            self.directory.append("metrics.jsonl", [record])
            self.report.log(record)
            flat = {f"loss/{k}": v for k, v in record["loss"].items()}
            flat |= record["metrics"]
            flat |= {k: v for k, v in record.items() if isinstance(v, float) and k != "step"}
            for tracker in self.trackers.values():
                tracker.log(self.step, flat)

        if world_size() > 1:
            self.seen.judge(str(self.directory.path / "skipped.jsonl"))

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
        """Run the evaluations, on averaged weights where an average is kept.

        One that can't score is left out, and its reason is in `failed`.
        """
        with self.average.applied() if self.average else nullcontext():
            scores, self.failed = run_evaluations(self.evaluations, self.probe())
        return scores
