"""From a checked config to tokenizers, sources, model and evaluations.

Constructors and `needs` are where impossible combinations show; all of them are reported at once,
before any data is read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar, cast

from polymodal.config.checks import check_training, words
from polymodal.config.shape import Config, Slot
from polymodal.data.dealing import Hand
from polymodal.data.reading import StreamReading
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import nearest
from polymodal.interfaces.component import Need, StreamInfo
from polymodal.interfaces.encoder import Encoder, Fusion
from polymodal.interfaces.evaluation import Evaluation
from polymodal.interfaces.method import Method, Tracker
from polymodal.interfaces.objective import Comparison, Objective
from polymodal.interfaces.source import Source
from polymodal.interfaces.tokenizer import Reader, Tokenizer
from polymodal.model.freezing import freeze
from polymodal.model.model import PretrainingModel, stream_info
from polymodal.packed.spec import TokenSpec
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.origin import Origin
from polymodal.runs.constructing import Constructor
from polymodal.runs.fields import field_problems, placed
from polymodal.runs.initializing import initialize

Part = TypeVar("Part")
# A training's parts, by the properties that build them.
_PARTS = ("_tokenizers", "_readers", "_sources", "_encoders", "_modules", "_objectives",
          "_methods", "_evaluations", "_trackers")  # fmt: skip
# Where the weights of a config's section stand in a model.
_STATE = {"modules": "shared", "objectives": "objectives"}


@dataclass(frozen=True)
class Requirement:
    """A plugin a run needs."""

    plugin: str
    distribution: str | None
    version: str | None
    interface: int | None


class Builder:
    """Builds the parts of a run, each once, and says which config entry a failure comes from.

    Args:
        config: checked.
        origin: where its entries stand, for error messages.
        plugins: those of this environment unless given.
    """

    def __init__(
        self,
        config: Config,
        origin: Origin | None = None,
        *,
        plugins: Plugins | None = None,
    ):
        self.config = config
        self.origin = origin or Origin()
        self.plugins = (plugins or installed()).without(config.plugins.block)
        self._made = Constructor(self.plugins, self.origin, seed=config.seed)

    def _construct(self, where: str, kind: str, slot: Slot, base: type[Part]) -> Part | None:
        """Build one component, or note why it can't be.

        What depends on a part that could not be built is left out: it would only repeat that.
        """
        made = self._made.construct(where, kind, slot, base, ready=self._ready, offer=self._offer)
        return cast(Part | None, made)

    def _note(self, where: str, error: Exception, *, before: str = "") -> None:
        self._made.note(where, error, before=before)

    def _raise(self) -> None:
        self._made.raise_noted()

    def _ready(self, where: str, slot: Slot, asked: Sequence[str]) -> bool:
        """Whether all is there that a component asks the run for."""
        if "spec" in asked:
            return all(stream in self._specs for stream in self._users(where))
        if "info" in asked and len(self._info) < len(self.config.streams):
            read = set(words(slot.options)) & set(self.config.streams)
            return bool(read) and read <= set(self._info)
        return "context" not in asked or len(self._sources) == len(self.config.data.sources)

    def _offer(self, where: str, name: str) -> Any:
        if name == "info":
            return self._info
        if name == "context":
            return self.context
        if name == "spec":
            return self._spec_for(where)
        raise ValueError(f"the component asks the run for {name!r}, which it has not")

    def _users(self, where: str) -> list[str]:
        """Return the streams that an encoder serves."""
        section, _, rest = where.partition(".")
        if section == "streams":
            return [rest.partition(".")[0]]
        return [s for s in self.config.streams if self.config.encoder_of(s) == rest]

    def _spec_for(self, where: str) -> TokenSpec:
        """Return the spec of the streams an encoder serves; they may differ in size alone."""
        users = self._users(where)
        if not users:
            raise ValueError("no stream uses this encoder")
        spec = self._specs[users[0]]
        for user in users[1:]:
            both = spec.union(self._specs[user])
            if both is None:
                raise ValueError(
                    f"streams {users[0]!r} and {user!r} share it, but their tokenizers differ; "
                    "let both name one entry under 'tokenizers'"
                )
            spec = both
        return spec

    def _all(
        self, kind: str, slots: Mapping[str, tuple[str, Slot]], base: type[Part]
    ) -> dict[str, Part]:
        """Build what can be built."""
        built = {
            name: self._construct(where, kind, slot, base) for name, (where, slot) in slots.items()
        }
        return {name: part for name, part in built.items() if part is not None}

    def _section(self, section: str, kind: str, base: type[Part]) -> dict[str, Part]:
        slots = getattr(self.config, section)
        return self._all(kind, {n: (f"{section}.{n}", slot) for n, slot in slots.items()}, base)

    def _where(self, part: str, name: str) -> str:
        named = getattr(self.config, f"{part}s")
        return f"{part}s.{name}" if name in named else f"streams.{name}.{part}"

    @cached_property
    def _tokenizers(self) -> dict[str, Tokenizer]:
        used = {self.config.tokenizer_of(stream) for stream in self.config.streams}
        slots = {
            name: (self._where("tokenizer", name), slot)
            for name, slot in self.config.tokenizer_slots().items()
            if name in used
        }
        return self._all("tokenizer", slots, Tokenizer)

    @property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Tokenizers by name, not yet fitted."""
        tokenizers = self._tokenizers
        self._raise()
        return tokenizers

    @cached_property
    def _specs(self) -> dict[str, TokenSpec]:
        """What each stream's tokens are like, of those with a tokenizer."""
        names = {s: self.config.tokenizer_of(s) for s in self.config.streams}
        return {s: self._tokenizers[n].spec for s, n in names.items() if n in self._tokenizers}

    @cached_property
    def _readers(self) -> dict[str, Reader]:
        slots: dict[str, tuple[str, Slot]] = {}
        for name, stream in self.config.streams.items():
            tokenizer = self._tokenizers.get(self.config.tokenizer_of(name))
            slot = stream.reader
            if slot is None and tokenizer is not None and tokenizer.reader is not None:
                slot = Slot(use=tokenizer.reader)
            if slot is not None:
                slots[name] = (f"streams.{name}.reader", slot)
        return self._all("reader", slots, Reader)

    @cached_property
    def readings(self) -> dict[str, StreamReading]:
        """How each stream is read."""
        readers = self._readers
        self._raise()
        return {
            name: StreamReading(
                self.config.streams[name].field or name,
                self.tokenizers[self.config.tokenizer_of(name)],
                readers.get(name),
                self.config.streams[name].many,
                self.config.streams[name].augment,
            )
            for name in self.config.streams
        }

    @cached_property
    def _sources(self) -> dict[str, SplitSource]:
        slots = {n: (f"data.sources.{n}", slot) for n, slot in self.config.data.sources.items()}
        return {
            name: SplitSource(
                name,
                source,
                fields=self.config.data.sources[name].fields,
                split=self.config.data.sources[name].split,
            )
            for name, source in self._all("source", slots, Source).items()  # type: ignore[type-abstract]
        }

    @property
    def sources(self) -> dict[str, SplitSource]:
        """Data sources by name; building them reads nothing."""
        sources = self._sources
        self._raise()
        return sources

    @cached_property
    def context(self) -> dict[str, Any]:
        """What the sources hold beside samples; this reads data."""
        found: dict[str, Any] = {}
        for source in self.sources.values():
            found.update(source.context())
        return found

    @cached_property
    def _encoders(self) -> dict[str, Encoder]:
        used = {self.config.encoder_of(stream) for stream in self.config.streams}
        slots = {
            name: (self._where("encoder", name), slot)
            for name, slot in self.config.encoder_slots().items()
            if name in used
        }
        encoders = self._all("encoder", slots, Encoder)
        for name, encoder in encoders.items():
            where, slot = slots[name]
            self._try(f"{where}.initialize", partial(initialize, encoder, slot, name, "encoders"))
            key = "freeze_layers" if slot.freeze_layers else "freeze"
            self._try(f"{where}.{key}", partial(freeze, encoder, slot))
        return encoders

    @property
    def encoders(self) -> dict[str, Encoder]:
        """Encoders by name, frozen where the config says so."""
        encoders = self._encoders
        self._raise()
        return encoders

    def _try(self, where: str, action: Callable[[], None]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self._note(where, error)

    @cached_property
    def _info(self) -> dict[str, StreamInfo]:
        """What objectives may know of each stream, of those with tokenizer and encoder."""
        names = {s: self.config.encoder_of(s) for s in self._specs}
        return {
            s: stream_info(self._specs[s], self._encoders[n])
            for s, n in names.items()
            if n in self._encoders
        }

    @cached_property
    def _modules(self) -> dict[str, Fusion]:
        modules = self._section("modules", "fusion", Fusion)
        for name, module in modules.items():
            self._check_needs(f"modules.{name}", self.config.modules[name], module.needs())
        return modules

    @cached_property
    def _objectives(self) -> dict[str, Objective]:
        config = self.config
        objectives = self._section("objectives", "objective", Objective)
        for name, objective in objectives.items():
            where, slot = f"objectives.{name}", config.objectives[name]
            self._check_needs(where, slot, objective.needs())
            for used in objective.uses():
                if used not in config.modules:
                    hint = nearest(used, config.modules)
                    text = f"no module is called {used!r} under 'modules'.{hint}"
                    self._made.problems.append((placed(where, slot, used), text))
            key = "data.batch_size" if slot.batch_size is None else f"{where}.batch_size"
            if not objective.separable and (slot.batch_size or config.data.batch_size) == 1:
                text = (
                    f"is 1, but {slot.use} compares the samples of a batch with each other and "
                    "would learn nothing; set it to 2 or more"
                )
                self._made.problems.append((key, text))
            whole = not objective.separable and not isinstance(objective, Comparison)
            if whole and config.trainer.accumulate > 1:
                text = (
                    f"{slot.use} compares the samples of a batch with each other, so a batch "
                    f"can't be cut into {config.trainer.accumulate} parts; set accumulate to 1"
                )
                self._made.problems.append(("trainer.accumulate", text))
        return objectives

    @cached_property
    def _methods(self) -> dict[str, Method]:
        return self._section("methods", "method", Method)

    @cached_property
    def _evaluations(self) -> dict[str, Evaluation]:
        evaluations = self._section("evaluate", "evaluation", Evaluation)  # type: ignore[type-abstract]
        for name, evaluation in evaluations.items():
            self._check_needs(f"evaluate.{name}", self.config.evaluate[name], evaluation.needs())
        return evaluations

    @cached_property
    def _trackers(self) -> dict[str, Tracker]:
        return self._section("trackers", "tracker", Tracker)  # type: ignore[type-abstract]

    def check(self) -> None:
        """Build every part of a training and refuse all that is wrong at once; no data is read.

        Raises:
            ConfigError: parts that can't be built or combined, needs that are not met, fields that
                no source has (of sources that know theirs without reading).
        """
        for part in _PARTS:
            getattr(self, part)  # builds it, and notes why it can't be
        self._made.problems += check_training(self.config)
        self._raise()
        self.check_fields(read=False)

    def check_fields(self, *, read: bool = True) -> None:
        """Refuse fields that no source has.

        Args:
            read: look into sources that must read data to know their columns.

        Raises:
            ConfigError: every such field; sources that can't be read.
        """
        self._made.problems += field_problems(
            self.config, self.sources, self._objectives, self.plugins, read=read
        )
        self._raise()

    def model(self) -> PretrainingModel:
        """Build the whole model.

        Raises:
            ConfigError: every part that can't be built and every need that is not met.
        """
        config = self.config
        modules, objectives, methods = self._modules, self._objectives, self._methods
        self._raise()
        drawn = config.trainer.objectives == "one"  # then weights are shares of the steps
        try:
            model = PretrainingModel(
                {s: config.encoder_of(s) for s in self.config.streams},
                self._encoders,
                self._specs,
                modules,
                objectives,
                {n: 1.0 if drawn else slot.weight for n, slot in config.objectives.items()},
                methods,
            )
        except ValueError as error:  # of an attach: "objectives.name: why"
            where, _, why = str(error).partition(": ")
            raise self.origin.error([(where, why)]) from error
        model.frozen = {n for n, s in config.encoder_slots().items() if s.freeze is True}
        for section, parts in (("modules", model.shared), ("objectives", model.objectives)):
            for name, part in parts.items():
                where = f"{section}.{name}.initialize"
                slot = getattr(config, section)[name]
                self._try(where, partial(initialize, part, slot, name, _STATE[section]))
        self._raise()
        self.plugins.notify("polymodal_model_built", model=model, config=config)
        return model

    def _check_needs(self, where: str, slot: Slot, needs: Mapping[str, Need]) -> None:
        for stream, need in needs.items():
            if stream in self.config.streams and stream not in self._info:
                continue  # it could not be built
            try:
                need.check(self._info, stream)
            except ValueError as error:
                self._note(placed(where, slot, stream), error, before=f"{slot.use}: ")

    def evaluations(self) -> dict[str, Evaluation]:
        """Build the evaluations.

        Raises:
            ConfigError: every one that can't be built, or reads a stream that does not exist.
        """
        evaluations = self._evaluations
        self._raise()
        return evaluations

    def trackers(self) -> dict[str, Tracker]:
        """Build the trackers."""
        trackers = self._trackers
        self._raise()
        return trackers

    def requirements(self) -> list[Requirement]:
        """Return the plugins this run uses."""
        names = {use.partition(".")[0] for use in self.config.uses()}
        plugins = [self.plugins.get(name) for name in sorted(names)]
        return [Requirement(p.name, p.distribution, p.version, p.interface) for p in plugins]


def groups_of(model: PretrainingModel, config: Config) -> dict[str, dict[str, Hand]]:
    """Return the objectives of each group, by which a step's samples are dealt out."""
    groups: dict[str, dict[str, Hand]] = {}
    for name, slot in config.objectives.items():
        if slot.group is not None:
            hand = Hand(slot.share or 1.0, tuple(model.objective(name).needs()))
            groups.setdefault(slot.group, {})[name] = hand
    return groups


def fields_of(model: PretrainingModel) -> tuple[str, ...]:
    """Return the fields of the sample that objectives read."""
    return tuple(sorted({f for name in model.objectives for f in model.objective(name).fields()}))
