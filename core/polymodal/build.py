"""From a checked config to tokenizers, sources, model and evaluations.

Constructors and `needs` are where impossible combinations show; all of them are reported at once,
before any data is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from polymodal.component import Need, StreamInfo, TokenSpec
from polymodal.config import Config, Origin, Slot, TrainedSlot, convert
from polymodal.encoder import Encoder, Fusion
from polymodal.errors import ConfigError, PluginError, nearest
from polymodal.evaluation import Evaluation
from polymodal.freezing import freeze
from polymodal.loader import StreamReading
from polymodal.method import Method, Tracker
from polymodal.model import PretrainingModel, stream_info
from polymodal.noise import hash_words
from polymodal.objective import Objective, View
from polymodal.plugins import Plugins, installed
from polymodal.signature import read_signature
from polymodal.source import Source
from polymodal.splits import SplitSource
from polymodal.tokenizer import Reader, Tokenizer

Part = TypeVar("Part")
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
        self.plugins = plugins or installed()
        self._problems: list[str] = []

    def _construct(self, where: str, kind: str, slot: Slot, base: type[Part]) -> Part | None:
        """Build one component, or note why it can't be."""
        try:
            component = self.plugins.find(slot.use, kind)
            cls = component.load()
            if not issubclass(cls, base):
                raise PluginError(f"{slot.use}: {component.target} is no {base.__name__}")
            signature = read_signature(component.target)
        except (PluginError, ImportError) as error:
            self._problems.append(f"{self.origin.of(f'{where}.use')}: {error}")
            return None
        try:
            given = {name: self._offer(where, name) for name in signature.from_run}
        except ConfigError as error:
            self._problems += error.problems
            return None
        options = {
            name: convert(signature.options[name].annotation, value)
            if name in signature.options
            else value
            for name, value in slot.options.items()
        }
        # Weights depend on the seed and the part's own name, not on what else the config holds.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_words(self.config.seed, kind, where.rpartition(".")[2]))
            try:
                return cls(**given, **options)
            except (ValueError, TypeError, PluginError) as error:
                self._problems.append(f"{self.origin.of(where)}: {slot.use}: {error}")
                return None

    def _offer(self, where: str, name: str) -> Any:
        if name == "info":
            return self.info
        if name == "context":
            return self.context
        if name == "spec":
            return self._spec_for(where)
        raise ConfigError(
            [f"{self.origin.of(where)}: the component asks the run for {name!r}, which it has not"]
        )

    def _spec_for(self, where: str) -> TokenSpec:
        """Return the spec of the streams an encoder serves; they must agree."""
        section, _, rest = where.partition(".")
        if section == "streams":
            return self.specs[rest.partition(".")[0]]
        users = [s for s in self.config.streams if self.config.encoder_of(s) == rest]
        if not users:
            raise ConfigError([f"{self.origin.of(where)}: no stream uses this encoder"])
        for user in users[1:]:
            if self.specs[user] != self.specs[users[0]]:
                raise ConfigError(
                    [
                        f"{self.origin.of(where)}: streams {users[0]!r} and {user!r} share it, but "
                        "their tokenizers differ; let both name one entry under 'tokenizers'"
                    ]
                )
        return self.specs[users[0]]

    def _all(
        self, kind: str, slots: Mapping[str, tuple[str, Slot]], base: type[Part]
    ) -> dict[str, Part]:
        built = {
            name: self._construct(where, kind, slot, base) for name, (where, slot) in slots.items()
        }
        self._raise()
        return {name: cast(Part, part) for name, part in built.items()}

    def _raise(self) -> None:
        if self._problems:
            problems, self._problems = self._problems, []
            raise ConfigError(problems)

    def _where(self, part: str, name: str) -> str:
        named = getattr(self.config, f"{part}s")
        return f"{part}s.{name}" if name in named else f"streams.{name}.{part}"

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Tokenizers by name, not yet fitted."""
        used = {self.config.tokenizer_of(stream) for stream in self.config.streams}
        slots = {
            name: (self._where("tokenizer", name), slot)
            for name, slot in self.config.tokenizer_slots().items()
            if name in used
        }
        return self._all("tokenizer", slots, Tokenizer)

    @cached_property
    def specs(self) -> dict[str, TokenSpec]:
        """What each stream's tokens are like."""
        return {s: self.tokenizers[self.config.tokenizer_of(s)].spec for s in self.config.streams}

    @cached_property
    def readings(self) -> dict[str, StreamReading]:
        """How each stream is read."""
        slots: dict[str, tuple[str, Slot]] = {}
        for name in self.config.streams:
            tokenizer = self.tokenizers[self.config.tokenizer_of(name)]
            slot = self.config.streams[name].reader
            if slot is None and tokenizer.reader is not None:
                slot = Slot(use=tokenizer.reader)
            if slot is not None:
                slots[name] = (f"streams.{name}.reader", slot)
        readers = self._all("reader", slots, Reader)
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
    def sources(self) -> dict[str, SplitSource]:
        """Data sources by name; building them reads nothing."""
        slots = {
            name: (f"data.sources.{name}", cast(Slot, slot))
            for name, slot in self.config.data.sources.items()
        }
        sources = self._all("source", slots, Source)
        return {
            name: SplitSource(
                name,
                source,
                fields=self.config.data.sources[name].fields,
                split=self.config.data.sources[name].split,
            )
            for name, source in sources.items()
        }

    @cached_property
    def context(self) -> dict[str, Any]:
        """What the sources hold beside samples; this reads data."""
        found: dict[str, Any] = {}
        for source in self.sources.values():
            found.update(source.source.context())
        return found

    @cached_property
    def encoders(self) -> dict[str, Encoder]:
        """Encoders by name, frozen where the config says so."""
        used = {self.config.encoder_of(stream) for stream in self.config.streams}
        slots = {
            name: (self._where("encoder", name), cast(Slot, slot))
            for name, slot in self.config.encoder_slots().items()
            if name in used
        }
        encoders = self._all("encoder", slots, Encoder)
        for name, encoder in encoders.items():
            slot = self.config.encoder_slots()[name]
            where = slots[name][0]
            self._try(f"{where}.initialize", partial(_initialize, encoder, slot, name, "encoders"))
            self._try(f"{where}.freeze", partial(freeze, encoder, slot))
        self._raise()
        return encoders

    def _try(self, where: str, action: Callable[[], None]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self._problems.append(f"{self.origin.of(where)}: {error}")

    @cached_property
    def info(self) -> dict[str, StreamInfo]:
        """What objectives may know of each stream."""
        return {
            s: stream_info(self.specs[s], self.encoders[self.config.encoder_of(s)])
            for s in self.config.streams
        }

    def model(self) -> PretrainingModel:
        """Build the whole model.

        Raises:
            ConfigError: every part that can't be built and every need that is not met.
        """
        config = self.config
        _ = self.encoders  # their mistakes first: the rest would only repeat them
        built: dict[str, dict[str, Any]] = {}
        for section, kind, base in (
            ("modules", "fusion", Fusion),
            ("objectives", "objective", Objective),
            ("methods", "method", Method),
        ):
            slots = {n: (f"{section}.{n}", s) for n, s in getattr(config, section).items()}
            built[section] = {
                name: part
                for name, (where, slot) in slots.items()
                if (part := self._construct(where, kind, slot, base)) is not None
            }
        for section in ("modules", "objectives"):
            for name, part in built[section].items():
                self._check_needs(f"{section}.{name}", part.needs())
        for name, objective in built["objectives"].items():
            for used in objective.uses():
                if used not in config.modules:
                    self._problems.append(
                        f"{self.origin.of(f'objectives.{name}')}: no module is called {used!r} "
                        f"under 'modules'.{nearest(used, config.modules)}"
                    )
            if not objective.separable and config.trainer.accumulate > 1:
                self._problems.append(
                    f"{self.origin.of('trainer.accumulate')}: {config.objectives[name].use} "
                    "compares the samples of a batch with each other, so a batch can't be cut into "
                    f"{config.trainer.accumulate} parts; set accumulate to 1"
                )
        self._raise()
        drawn = config.trainer.objectives == "one"  # then weights are shares of the steps
        try:
            model = PretrainingModel(
                {s: config.encoder_of(s) for s in self.config.streams},
                self.encoders,
                self.specs,
                built["modules"],
                built["objectives"],
                {n: 1.0 if drawn else slot.weight for n, slot in config.objectives.items()},
                built["methods"],
            )
        except ValueError as error:  # of an attach: "objectives.name: why"
            where, _, why = str(error).partition(": ")
            raise ConfigError([f"{self.origin.of(where)}: {why}"]) from error
        model.frozen = {n for n, s in config.encoder_slots().items() if s.freeze is True}
        for section, parts in (("modules", model.shared), ("objectives", model.objectives)):
            for name, part in parts.items():
                where = f"{section}.{name}.initialize"
                slot = getattr(config, section)[name]
                self._try(where, partial(_initialize, part, slot, name, _STATE[section]))
        self._raise()
        self.plugins.hook.polymodal_model_built(model=model, config=config)
        return model

    def _check_needs(self, where: str, needs: Mapping[str, Need]) -> None:
        for stream, need in needs.items():
            if stream not in self.info:
                hint = nearest(stream, self.specs)
                self._problems.append(
                    f"{self.origin.of(where)}: no stream is called {stream!r}.{hint}"
                )
                continue
            unmet = need.unmet(self.info[stream])
            if unmet:
                fits = [s for s, info in self.info.items() if need.unmet(info) is None]
                hint = f" Streams that would do: {', '.join(fits)}." if fits else ""
                self._problems.append(
                    f"{self.origin.of(where)}: on stream {stream!r} it {unmet}.{hint}"
                )

    def evaluations(self) -> dict[str, Evaluation]:
        """Build the evaluations.

        Raises:
            ConfigError: every one that can't be built, or reads a stream that does not exist.
        """
        slots = {name: (f"evaluate.{name}", slot) for name, slot in self.config.evaluate.items()}
        evaluations = self._all("evaluation", slots, Evaluation)
        for name, evaluation in evaluations.items():
            self._check_needs(f"evaluate.{name}", evaluation.needs())
        self._raise()
        return evaluations

    def trackers(self) -> dict[str, Tracker]:
        """Build the trackers."""
        slots = {name: (f"trackers.{name}", slot) for name, slot in self.config.trackers.items()}
        return self._all("tracker", slots, Tracker)

    def requirements(self) -> list[Requirement]:
        """Return the plugins this run uses."""
        names = {slot.use.partition(".")[0] for _, slot in self.config.slots().values()}
        plugins = [self.plugins.get(name) for name in sorted(names)]
        return [Requirement(p.name, p.distribution, p.version, p.interface) for p in plugins]


def views_of(model: PretrainingModel) -> dict[str, View]:
    """Return the views of all objectives, by "objective/name"."""
    return {
        f"{name}/{view}": made
        for name in model.objectives
        for view, made in model.objective(name).views().items()
    }


def fields_of(model: PretrainingModel) -> tuple[str, ...]:
    """Return the fields of the sample that objectives read."""
    return tuple(sorted({f for name in model.objectives for f in model.objective(name).fields()}))


def _initialize(part: nn.Module, slot: TrainedSlot, name: str, section: str) -> None:
    """Take the weights of another run's part of the same kind.

    An encoder or module must have all of them; an objective takes those it has in common, so that
    what was pre-trained by one (a decoder) can be fine-tuned by another.

    Raises:
        ValueError: no such run or part, nothing in common, or weights of other shapes.
    """
    if slot.initialize is None:
        return
    from safetensors.torch import load_file

    path, _, other = slot.initialize.partition("#")
    other = other or name
    file = Path(path) / "model" / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"{path!r} is no run: it has no model/model.safetensors")
    weights = load_file(file)
    prefix = f"{section}.{other}."
    found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if not found:
        names = {key.split(".")[1] for key in weights if key.startswith(f"{section}.")}
        raise ValueError(
            f"{path!r} has no weights of {other!r} under {section}.{nearest(other, names)}"
        )
    partly = section == "objectives"
    if partly:
        found = {key: value for key, value in found.items() if key in part.state_dict()}
        if not found:
            raise ValueError(f"{path!r}: objective {other!r} has no weights in common with it")
    try:
        part.load_state_dict(found, strict=not partly)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error
