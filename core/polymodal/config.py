"""The config: its shape, how a YAML file is read, and every mistake in it at once.

Nothing here imports torch. A component's options are its constructor's arguments, read from the
source text (`polymodal.signature`); whether a combination can work is checked when the parts are
built (`polymodal.build`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, PydanticSchemaGenerationError, TypeAdapter
from pydantic import ValidationError as PydanticError

from polymodal.errors import ConfigError, PluginError, nearest
from polymodal.plugins import Component, Plugins, installed
from polymodal.signature import read_signature


class Section(BaseModel):
    """A part of the config; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Slot(BaseModel):
    """A place for a component: `use` names it, keys not listed here are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    use: str

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options."""
        return dict(self.model_extra or {})


class TrainedSlot(Slot):
    """A part with weights, where they start from and how fast they move."""

    learning_rate: float | None = Field(None, gt=0)  # instead of the optimizer's
    initialize: str | None = None  # "RUN" or "RUN#name": take the weights of another run's part


class EncoderSlot(TrainedSlot):
    """An encoder, and which of it is trained."""

    freeze: bool | list[str] = False  # True, or patterns of parameter names
    freeze_layers: int = Field(0, ge=0)  # the first so many of Encoder.layers()
    layer_decay: float | None = Field(None, gt=0, le=1)  # rate times this for each layer below


class ObjectiveSlot(TrainedSlot):
    """An objective, and its share in the loss; or in the steps, where each has one objective."""

    weight: float = Field(1.0, ge=0)
    batch_size: int | None = Field(None, ge=1)  # of its steps; with trainer.objectives: one


class StreamConfig(Section):
    """A named input: one field, one tokenizer, one encoder."""

    tokenizer: Slot | str  # a component, or the name of one under `tokenizers`
    encoder: EncoderSlot | str  # a component, or the name of one under `encoders`
    field: str | None = None  # of the sample; the stream's own name unless given
    reader: Slot | None = None  # the tokenizer's own unless given
    many: bool = False  # the field holds a list, each item a segment of its own
    augment: bool = True  # whether training draws random augmentation


class SplitConfig(Section):
    """How a source's rows are shared out: by shares, or by a column that says it."""

    validation: float = Field(0.0, ge=0, lt=1)
    test: float = Field(0.0, ge=0, lt=1)
    by: str | None = None  # rows with equal values of this column stay together
    column: str | None = None  # holds "train", "validation" or "test"
    seed: int = 0


class SourceSlot(Slot):
    """A data source, its share of the batches, and its splits."""

    weight: float | None = Field(None, ge=0)  # share of samples; its number of rows unless given
    fields: dict[str, str | None] = {}  # new name: column, or null to hide a field
    split: SplitConfig = SplitConfig()


class DataConfig(Section):
    """What is trained on, and how it is cut into batches."""

    sources: dict[str, SourceSlot] = {}
    batch_size: int = Field(64, ge=1)  # samples of an optimisation step, over all ranks
    tokens: int | None = Field(None, ge=1)  # a step's token budget; then batch_size is a bound
    workers: int = Field(0, ge=0)
    prefetch: int = Field(4, ge=1)  # batches read ahead by each worker
    max_skipped: float = Field(0.05, ge=0, le=1)  # share of unreadable records that stops a run
    fit_samples: int = Field(50_000, ge=1)  # rows a learned vocabulary sees


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)  # of matrices; biases and norms have none
    final_weight_decay: float | None = Field(None, ge=0)  # reached by a cosine at the last step
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = Field(1e-8, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_share: float = Field(0.0, ge=0, le=1)  # of the learning rate, at the last step
    clip: float | None = Field(1.0, gt=0)  # norm of the gradient


class TrainerConfig(Section):
    """How long, on what, and what is written down on the way."""

    max_steps: int | None = Field(None, ge=0)
    epochs: float | None = Field(None, gt=0)  # of the largest source, where max_steps is not given
    accumulate: int = Field(1, ge=1)  # micro-batches of a step
    objectives: Literal["all", "one"] = "all"  # one: drawn for each step, by weight
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    strategy: Literal["ddp", "fsdp"] = "ddp"  # with several processes: copies, or shards
    compile: bool = False  # torch.compile of every transformer block
    gradient_checkpointing: bool = False
    ema: float | None = Field(None, gt=0, lt=1)  # decay of an average of the weights
    log_every: int = Field(10, ge=1)
    evaluate_every: int | None = Field(None, ge=1)
    evaluate_untrained: bool = True  # measure the model before its first step, for comparison
    checkpoint_every: int | None = Field(None, ge=1)
    keep_checkpoints: int = Field(2, ge=1)


class PluginsConfig(Section):
    """Which plugins a run must not use."""

    block: list[str] = []


class Config(Section):
    """A whole run."""

    streams: dict[str, StreamConfig]
    tokenizers: dict[str, Slot] = {}
    encoders: dict[str, EncoderSlot] = {}
    modules: dict[str, TrainedSlot] = {}
    objectives: dict[str, ObjectiveSlot]
    methods: dict[str, Slot] = {}
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    trainer: TrainerConfig = TrainerConfig()
    evaluate: dict[str, Slot] = {}
    trackers: dict[str, Slot] = {}
    plugins: PluginsConfig = PluginsConfig()
    seed: int = 0

    def tokenizer_slots(self) -> dict[str, Slot]:
        """Return every tokenizer by name; one written within a stream has the stream's name."""
        inline = {n: s.tokenizer for n, s in self.streams.items() if isinstance(s.tokenizer, Slot)}
        return {**self.tokenizers, **inline}

    def encoder_slots(self) -> dict[str, EncoderSlot]:
        """Return every encoder by name; one written within a stream has the stream's name."""
        inline = {
            n: s.encoder for n, s in self.streams.items() if isinstance(s.encoder, EncoderSlot)
        }
        return {**self.encoders, **inline}

    def tokenizer_of(self, stream: str) -> str:
        """Return the name of a stream's tokenizer."""
        tokenizer = self.streams[stream].tokenizer
        return tokenizer if isinstance(tokenizer, str) else stream

    def encoder_of(self, stream: str) -> str:
        """Return the name of a stream's encoder."""
        encoder = self.streams[stream].encoder
        return encoder if isinstance(encoder, str) else stream

    def slots(self) -> dict[str, tuple[str, Slot]]:
        """Return every component slot by its path: (kind wanted, slot)."""
        found: dict[str, tuple[str, Slot]] = {}
        for name, stream in self.streams.items():
            for kind, slot in (
                ("tokenizer", stream.tokenizer),
                ("encoder", stream.encoder),
                ("reader", stream.reader),
            ):
                if isinstance(slot, Slot):
                    found[f"streams.{name}.{kind}"] = (kind, slot)
        for part, kind in _KINDS.items():
            for name, slot in getattr(self, part).items():
                found[f"{part}.{name}"] = (kind, slot)
        for name, slot in self.data.sources.items():
            found[f"data.sources.{name}"] = ("source", slot)
        return found


_KINDS = {
    "tokenizers": "tokenizer",
    "encoders": "encoder",
    "modules": "fusion",
    "objectives": "objective",
    "methods": "method",
    "evaluate": "evaluation",
    "trackers": "tracker",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Names nn.ModuleDict has as its own attributes.
_TAKEN = {
    *("apply", "clear", "compile", "cpu", "cuda", "double", "eval", "float", "forward", "half"),
    *("items", "keys", "pop", "to", "train", "training", "type", "update", "values"),
}


class Origin:
    """Where each value of a config was written, for error messages."""

    def __init__(self, path: Path | None = None, overrides: Sequence[str] = ()):
        self.path = path
        self._lines: dict[str, int] = {}
        self._overridden = {item.partition("=")[0] for item in overrides}
        if path is not None:
            self._walk(yaml.compose(path.read_text(encoding="utf-8")), "")

    def _walk(self, node: yaml.Node | None, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                where = f"{prefix}.{key.value}" if prefix else str(key.value)
                self._lines[where] = key.start_mark.line + 1
                self._walk(value, where)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._lines[f"{prefix}.{number}"] = value.start_mark.line + 1
                self._walk(value, f"{prefix}.{number}")

    def of(self, where: str) -> str:
        """Return "file:line: path", or as much of it as is known."""
        probe = where
        while probe:
            if any(key == probe or key.startswith(probe + ".") for key in self._overridden):
                return f"command line: {where}"
            if probe in self._lines:
                return f"{self.path}:{self._lines[probe]}: {where}"
            probe = probe.rpartition(".")[0]
        return f"{self.path}: {where}" if self.path else where


def read_config(
    path: str | Path, overrides: Sequence[str] = (), *, plugins: Plugins | None = None
) -> Config:
    """Read a YAML file, apply `key=value` overrides, and check everything that text can tell.

    Raises:
        ConfigError: every mistake found, each with file, line, path and the nearest right name.
    """
    path = Path(path)
    if not path.is_file():
        names = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError([f"{path}: no such file.{nearest(path.name, names)}"])
    try:
        text = path.read_text(encoding="utf-8")
        tree = OmegaConf.create(text)
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text (byte {error.start})"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not valid YAML: {_one_line(error)}"]) from error
    except OmegaConfBaseException as error:
        raise ConfigError([f"{path}: {_one_line(error)}"]) from error
    if not OmegaConf.is_dict(tree):
        raise ConfigError([f"{path}: must hold keys and values, such as 'streams:'"])
    for item in overrides:
        if "=" not in item:
            raise ConfigError([f"command line: {item!r} must be written key=value"])
    try:
        tree.merge_with_dotlist(list(overrides))
        values: Any = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{path}: {_one_line(error)}"]) from error
    assert isinstance(values, dict)
    return check_config(values, Origin(path, overrides), plugins=plugins)


def check_config(
    values: Mapping[str, Any], origin: Origin | None = None, *, plugins: Plugins | None = None
) -> Config:
    """Turn plain values into a Config, or report every mistake in them.

    Raises:
        ConfigError: every mistake found.
    """
    origin = origin or Origin()
    plugins = plugins or installed()
    expanded = _expand(values)
    try:
        config = Config.model_validate_json(json.dumps(expanded), strict=True)
    except PydanticError as error:
        problems = [f"{origin.of(where)}: {text}" for where, text in _structure(error, expanded)]
        problems += _check_raw_slots(expanded, origin, plugins)
        raise ConfigError(problems) from error
    except TypeError as error:
        raise ConfigError([f"{origin.path}: {error}; use plain YAML values"]) from error
    problems = []
    try:
        plugins.block(config.plugins.block)
    except PluginError as error:
        problems.append(f"{origin.of('plugins.block')}: {error}")
    problems += _check_names(config, origin)
    for where, (kind, slot) in config.slots().items():
        problems += _check_slot(where, kind, slot.use, slot.options, origin, plugins)
    if problems:
        raise ConfigError(problems)
    return config


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Let a bare component name stand for `{use: name}`."""

    def slot(value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    values = dict(values)
    for part in _KINDS:
        if isinstance(values.get(part), Mapping):
            values[part] = {name: slot(value) for name, value in values[part].items()}
    data = values.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("sources"), Mapping):
        sources = {name: slot(value) for name, value in data["sources"].items()}
        values["data"] = {**data, "sources": sources}
    streams = values.get("streams")
    if isinstance(streams, Mapping):
        values["streams"] = {
            name: {
                key: slot(item)
                if key == "reader" or (isinstance(item, str) and "." in item and key != "field")
                else item
                for key, item in stream.items()
            }
            if isinstance(stream, Mapping)
            else stream
            for name, stream in streams.items()
        }
    return values


def _structure(error: PydanticError, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what pydantic found in our words: (path, text), each path once."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        steps = [str(step) for step in item["loc"] if not _is_branch(step)]
        where = ".".join(steps)
        if item["type"] == "extra_forbidden":
            known = _known_keys(steps[:-1])
            found[where] = f"unknown key {steps[-1]!r}.{nearest(steps[-1], known)}"
        elif item["type"] == "missing":
            found[where] = "is missing"
        elif where not in found:
            shown = "" if isinstance(item["input"], dict | list) else f", got {item['input']!r}"
            found[where] = item["msg"][0].lower() + item["msg"][1:] + shown
    return list(found.items())


def _is_branch(step: object) -> bool:
    """Whether a step of pydantic's location names a branch of a union, not a key."""
    return isinstance(step, str) and (step in {"str", "Slot", "EncoderSlot", "bool", "float"}
                                      or step.startswith(("list[", "dict[")))  # fmt: skip


def _known_keys(steps: Sequence[str]) -> list[str]:
    section: Any = Config
    for step in steps:
        fields = getattr(section, "model_fields", None)
        if fields is None or step not in fields:
            continue  # a name the user chose
        annotation = fields[step].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None
        )
    return list(getattr(section, "model_fields", {}))


def _check_raw_slots(values: Mapping[str, Any], origin: Origin, plugins: Plugins) -> list[str]:
    """Check the components of a config whose structure is wrong elsewhere: all mistakes at once."""
    places: list[tuple[str, str, type[Slot], Any]] = []
    types: dict[str, type[Slot]] = {
        "encoders": EncoderSlot,
        "modules": TrainedSlot,
        "objectives": ObjectiveSlot,
    }
    for part, kind in _KINDS.items():
        section = values.get(part)
        if isinstance(section, Mapping):
            for name, slot in section.items():
                places.append((f"{part}.{name}", kind, types.get(part, Slot), slot))
    streams = values.get("streams")
    for name, stream in streams.items() if isinstance(streams, Mapping) else ():
        if isinstance(stream, Mapping):
            for kind in ("tokenizer", "encoder", "reader"):
                slot_type = EncoderSlot if kind == "encoder" else Slot
                places.append((f"streams.{name}.{kind}", kind, slot_type, stream.get(kind)))
    data = values.get("data")
    sources = data.get("sources") if isinstance(data, Mapping) else None
    for name, slot in sources.items() if isinstance(sources, Mapping) else ():
        places.append((f"data.sources.{name}", "source", SourceSlot, slot))
    problems = []
    for where, kind, slot_type, slot in places:
        if isinstance(slot, Mapping) and isinstance(slot.get("use"), str):
            options = {k: v for k, v in slot.items() if k not in slot_type.model_fields}
            problems += _check_slot(where, kind, slot["use"], options, origin, plugins)
    return problems


def _check_names(config: Config, origin: Origin) -> list[str]:
    problems = []
    if not config.streams:
        problems.append(f"{origin.of('streams')}: needs at least one stream")
    if config.objectives and not config.data.sources:
        problems.append(f"{origin.of('data.sources')}: needs at least one source")
    sections = {part: getattr(config, part) for part in ("streams", *_KINDS)}
    for part, section in {**sections, "data.sources": config.data.sources}.items():
        for name in section:
            if not _NAME.match(name):
                problems.append(
                    f"{origin.of(f'{part}.{name}')}: {name!r} is no name: use letters, digits, _"
                )
            elif name in _TAKEN:
                problems.append(f"{origin.of(f'{part}.{name}')}: the name {name!r} is taken")
    for name, stream in config.streams.items():
        for what, value, named in (
            ("tokenizer", stream.tokenizer, config.tokenizers),
            ("encoder", stream.encoder, config.encoders),
        ):
            where = f"streams.{name}.{what}"
            if isinstance(value, str) and value not in named:
                problems.append(
                    f"{origin.of(where)}: no {what} is called {value!r} under "
                    f"'{what}s'.{nearest(value, named)}"
                )
            if not isinstance(value, str) and name in named:
                problems.append(
                    f"{origin.of(where)}: {name!r} already stands under '{what}s'; "
                    f"write '{what}: {name}' to use that one, or rename it"
                )
    if config.trainer.max_steps is None and config.trainer.epochs is None:
        problems.append(f"{origin.of('trainer')}: needs max_steps or epochs")
    sizes = {"data.batch_size": config.data.batch_size}
    for name, slot in config.objectives.items():
        where = f"objectives.{name}.batch_size"
        if slot.batch_size is not None:
            sizes[where] = slot.batch_size
            if config.trainer.objectives == "all":
                problems.append(
                    f"{origin.of(where)}: objectives that share a step share its batch; remove it, "
                    "or set trainer.objectives to one"
                )
    if config.data.tokens is None:
        for where, size in sizes.items():
            if size % config.trainer.accumulate:
                problems.append(
                    f"{origin.of('trainer.accumulate')}: {config.trainer.accumulate} does not "
                    f"divide {where} {size}"
                )
    return problems


def _check_slot(
    where: str,
    kind: str,
    use: str,
    options: Mapping[str, Any],
    origin: Origin,
    plugins: Plugins,
) -> list[str]:
    try:
        component = plugins.find(use, kind)
    except PluginError as error:
        return [f"{origin.of(f'{where}.use')}: {error}"]
    return [
        f"{origin.of(f'{where}.{option}' if option else where)}: {text}"
        for option, text in check_options(component, options)
    ]


def check_options(component: Component, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with the options of a component: (option, what)."""
    try:
        signature = read_signature(component.target)
    except ImportError:
        return []  # loading it will say which package is missing
    problems = []
    for name, option in signature.options.items():
        if option.required and name not in options:
            problems.append(("", f"{component.name} needs the option {name!r} ({option.shown})"))
    for name, value in options.items():
        if name not in signature.options:
            hint = nearest(name, signature.options) or " It has no options."
            problems.append((name, f"{component.name} has no option {name!r}.{hint}"))
            continue
        text = check_value(signature.options[name].annotation, value)
        if text:
            shown = signature.options[name].shown
            problems.append((name, f"must be {shown}, got {value!r} ({text})"))
    return problems


def check_value(annotation: Any, value: Any) -> str | None:
    """Return what is wrong with a YAML value for an annotation, or None.

    JSON's strict mode is YAML's sense of types: a list will do for a tuple, "3" not for 3.
    """
    try:
        adapter = TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        return None  # not a type YAML can give; the constructor decides
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except PydanticError as error:
        first = error.errors(include_url=False)[0]
        return str(first["msg"][0].lower() + first["msg"][1:])
    return None


def convert(annotation: Any, value: Any) -> Any:
    """Return a YAML value as the annotation's type (a list as a tuple, say)."""
    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except PydanticSchemaGenerationError:
        return value
