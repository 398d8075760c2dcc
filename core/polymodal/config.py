"""The config: its shape, how a YAML file is read, and every mistake in it at once.

Nothing here imports torch. A component's options are its constructor's arguments, read from the
source text (`polymodal.signature`); whether a combination can work is checked when the parts are
built (`polymodal.build`).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic import ValidationError as PydanticError

from polymodal.errors import ConfigError, DataError, PluginError, closest, nearest
from polymodal.files import find_files, find_folder
from polymodal.options import Refusals, check_options, leads_in, reason, shown
from polymodal.origin import UNRESOLVED, Origin, Problem, override, plain_values, read_yaml
from polymodal.plugins import Plugins, installed


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
    group: str | None = None  # each sample goes to one objective of those with the same group
    share: float | None = Field(None, gt=0)  # of the group's samples, relative to the others; or 1
    # Its loss makes an update of its own, before that of all others together: a further AdamW over
    # the same weights, at this rate instead of the optimizer's.
    own_update_rate: float | None = Field(None, gt=0)


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
    column: str | None = None  # holds "train", "validation" ("valid", "val", "dev") or "test"
    # what the column says in rows that belong to no split; else they are refused
    leave_out: list[str | int | float | bool | None] = []
    seed: int = 0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        shares = self.validation + self.test
        if self.column is not None and (shares or self.by is not None):
            raise ValueError("give shares (validation, test, by) or a column, not both")
        if self.leave_out and self.column is None:
            raise ValueError("leave_out names what a column says: give the column, too")
        if shares >= 1:
            raise ValueError(f"validation and test take {shares:g} of the rows: none is left")
        return self


class SourceSlot(Slot):
    """A data source, its share of the batches, and its splits."""

    weight: float | None = Field(None, ge=0)  # share of samples; its number of rows unless given
    # new name: column, or columns of which the first that is not missing is taken, or
    # {key: column} to make one value of several, or null to hide a field
    fields: dict[str, str | list[str] | dict[str, str] | None] = {}
    split: SplitConfig = SplitConfig()


class DataConfig(Section):
    """What is trained on, and how it is cut into batches."""

    sources: dict[str, SourceSlot] = {}
    exponent: float = Field(1.0, ge=0, le=1)  # a source without a weight has rows ** exponent
    batches: Literal["mixed", "one_source"] = "mixed"  # what a batch is drawn from
    batch_size: int = Field(64, ge=1)  # samples of an optimisation step, over all ranks
    tokens: int | None = Field(None, ge=1)  # a step's token budget; then batch_size is a bound
    group_by_length: int | None = Field(None, ge=2)  # among so many batches, like lengths together
    workers: int = Field(0, ge=0)
    prefetch: int = Field(4, ge=1)  # batches read ahead by each worker
    max_skipped: float = Field(0.05, ge=0, le=1)  # share of unreadable records that stops a run
    fit_samples: int = Field(50_000, ge=1)  # rows a learned vocabulary sees

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.batches == "one_source" and self.group_by_length is not None:
            raise ValueError(
                "give batches: one_source or group_by_length, not both: like lengths would bring "
                "several sources into a batch"
            )
        return self


Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)  # of matrices; biases and norms have none
    final_weight_decay: float | None = Field(None, ge=0)  # reached by a cosine at the last step
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    epsilon: float = Field(1e-8, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_share: float = Field(0.0, ge=0, le=1)  # of the learning rate, at the last step
    clip: float | None = Field(1.0, gt=0)  # norm of the gradient


def _known_device(device: str) -> str:
    known = ("auto", "cpu", "cuda", "hpu", "mps", "mtia", "npu", "xla", "xpu")
    if device.partition(":")[0] not in known:
        # No guess: "gpu" is nearest to "xpu".
        raise ValueError(f"no kind of device is called {device!r}. Known: {', '.join(known)}.")
    return device


class TrainerConfig(Section):
    """How long, on what, and what is written down on the way."""

    max_steps: int | None = Field(None, ge=0)
    epochs: float | None = Field(None, gt=0)  # of the largest source, where max_steps is not given
    accumulate: int = Field(1, ge=1)  # micro-batches of a step
    objectives: Literal["all", "one"] = "all"  # one: drawn for each step, by weight
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Annotated[str, AfterValidator(_known_device)] = "auto"  # "cuda", "cuda:1", "mps" ...
    strategy: Literal["ddp", "fsdp"] = "ddp"  # with several processes: copies, or shards
    compile: bool = False  # torch.compile of every transformer block
    gradient_checkpointing: bool | Literal["alternate", "selective"] = False  # see `Transformer`
    ema: float | None = Field(None, gt=0, lt=1)  # decay of an average of the weights
    log_every: int = Field(10, ge=1)
    ledger_every: int | None = Field(None, ge=1)  # measure what the parts of such steps cost
    evaluate_every: int | None = Field(None, ge=1)
    evaluate_untrained: bool = True  # measure the model before its first step, for comparison
    checkpoint_every: int | None = Field(None, ge=1)
    keep_checkpoints: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _shardable(self) -> Self:
        if self.strategy == "fsdp" and self.ledger_every is not None:
            raise ValueError(
                "ledger_every needs the strategy ddp: it takes gradients of whole weights"
            )
        if self.strategy == "fsdp" and self.precision == "float16":
            # Each rank would look for overflow in its own shards, and skip steps by itself.
            raise ValueError(
                "float16 needs the strategy ddp: each rank sees overflow in its own shards alone. "
                "Use bfloat16 with fsdp"
            )
        return self


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
_MISSING = ("is missing", "names no component: write use: plugin.component")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Names nn.ModuleDict has as its own attributes.
_TAKEN = {
    *("apply", "clear", "compile", "cpu", "cuda", "double", "eval", "float", "forward", "half"),
    *("items", "keys", "pop", "to", "train", "training", "type", "update", "values"),
}


def read_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    plugins: Plugins | None = None,
    files: bool = True,
) -> Config:
    """Read a YAML file, apply `key=value` overrides, and check everything that text can tell.

    Args:
        path: of the file.
        overrides: changes to it, as on the command line.
        plugins: those of this environment unless given.
        files: refuse options that name files and folders which do not exist.

    Raises:
        ConfigError: every mistake found, each with file, line, path and the nearest right name.
    """
    path = Path(path)
    tree = read_yaml(path)
    origin = Origin(path, overrides)
    problems = override(tree, overrides)
    values, unresolved = plain_values(tree, origin)
    absent: Refusals = {"file": _absent(find_files), "folder": _absent(find_folder)}
    return _check(
        values, origin, plugins or installed(), [*problems, *unresolved], absent if files else {}
    )


def check_config(
    values: Mapping[str, Any], origin: Origin | None = None, *, plugins: Plugins | None = None
) -> Config:
    """Turn plain values into a Config, or report every mistake in them.

    Raises:
        ConfigError: every mistake found.
    """
    return _check(values, origin or Origin(), plugins or installed(), [], {})


def _check(
    values: Mapping[str, Any],
    origin: Origin,
    plugins: Plugins,
    unread: list[Problem],
    absent: Refusals,
) -> Config:
    """Check values of which some could not be read; `absent` refuses files."""
    try:
        values = json.loads(json.dumps(_expand(values)))
    except TypeError as error:
        raise ConfigError([f"{origin.path}: {error}; use plain YAML values"]) from error
    problems: list[Problem] = []
    config = _validated(values, problems)
    whole = not problems and not unread
    if config is not None:
        try:
            plugins = plugins.without(config.plugins.block)
        except PluginError as error:
            problems.append(("plugins.block", str(error)))
        problems += _check_names(config, plugins)
        if whole:
            problems += _check_whole(config)
    refusals = {**absent, **_named(values, whole=whole)}
    for where, kind, form, slot in _places(values):
        problems += _check_slot(where, kind, form, slot, plugins, refusals)
    if config is not None and not problems:
        problems += _check_used(config)
    # Of what could not be read, nothing further is known.
    silent = tuple(where for where, _ in unread)
    problems = [p for p in problems if not any(_within(p[0], where) for where in silent)]
    if unread or problems or config is None:
        raise origin.error([*unread, *problems])
    return config


def _within(where: str, section: str) -> bool:
    return where == section or where.startswith(f"{section}.")


def _absent(find: Callable[[str], object]) -> Callable[[str], str | None]:
    def refuse(name: str) -> str | None:
        try:
            find(name)
        except DataError as error:
            return str(error)
        return None

    return refuse


def _named(values: Mapping[str, Any], *, whole: bool) -> Refusals:
    """Return what refuses names that a config's values do not have, by kind.

    Unless the config is whole, a section that is not there may only be misspelt.
    """

    def refuse(kind: str, section: Any) -> Callable[[str], str | None]:
        def problem(name: str) -> str | None:
            known = section if isinstance(section, dict) else {}
            if name in known or not (known or whole):
                return None
            return f"no {kind} is called {name!r}.{nearest(name, known)}"

        return problem

    data = values.get("data")
    return {
        "stream": refuse("stream", values.get("streams")),
        "module": refuse("module", values.get("modules")),
        "objective": refuse("objective", values.get("objectives")),
        "source": refuse("source", data.get("sources") if isinstance(data, Mapping) else None),
    }


def _expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Let a bare component name stand for `{use: name}`."""

    def slot(value: Any) -> Any:
        return {"use": value} if isinstance(value, str) and value != UNRESOLVED else value

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


def _validated(values: Mapping[str, Any], problems: list[Problem]) -> Config | None:
    """Return the config without what is wrong in it, and note what that is; None: too much is."""
    for again in range(4):  # what is left can be wrong for another reason
        try:
            return Config.model_validate_json(json.dumps(values), strict=True)
        except PydanticError as error:
            found = _structure(error, values)
            # What is missing after the first time was taken out here.
            problems += [p for p in found if not (again and p[1].startswith(_MISSING))]
            values = deepcopy(values)
            for where, _ in found:
                _remove(values, where.split("."))
    return None


def _remove(values: Any, steps: Sequence[str]) -> None:
    """Take out a value; for one that is missing, the section that lacks it."""
    places = []
    for step in steps:
        if not isinstance(values, dict) or step not in values:
            break
        places.append((values, step))
        values = values[step]
    if places:
        section, key = places[-1]
        section.pop(key)


def _structure(error: PydanticError, values: Mapping[str, Any]) -> list[Problem]:
    """Say what pydantic found in our words, each path once."""
    found: dict[str, str] = {}
    unknown: dict[str, str] = {}  # what was meant by unknown keys: path, nearest known path
    items = error.errors(include_url=False)
    for item in items:
        if item["type"] == "extra_forbidden":
            *outer, key = (str(step) for step in item["loc"])
            section = _section(outer)
            match = closest(key, section)
            where = ".".join([*outer, key])
            found[where] = f"unknown key {key!r}.{nearest(key, section)}"
            if match:
                unknown[".".join([*outer, match])] = where
    for item in items:
        steps, value, branch = _follow(item, values)
        where = ".".join(steps)
        if item["type"] == "extra_forbidden" or where in found or where in unknown:
            continue
        if branch == "other":
            continue
        if item["type"] == "missing" and steps[-1] == "use":
            assert isinstance(value, dict)
            meant = closest("use", value)
            found[where] = _MISSING[1] + (f". Did you mean 'use' by {meant!r}?" if meant else "")
        elif item["type"] == "missing":
            found[where] = _MISSING[0]
        elif item["type"] in ("model_type", "dict_type", "model_attributes_type"):
            found[where] = (
                "is empty: give it keys and values, or remove it"
                if item["input"] is None
                else f"must hold keys and values, got {shown(item['input'])}"
            )
        elif branch == "name":
            found[where] = (
                f"must be a component ({{use: ...}}) or the name of one under '{steps[-1]}s', "
                f"got {shown(item['input'])}"
            )
        else:
            told = item["type"] == "value_error" or isinstance(item["input"], dict | list)
            found[where] = reason(item) + ("" if told else f", got {item['input']!r}")
    return list(found.items())


def _follow(item: Any, values: Any) -> tuple[list[str], Any, str | None]:
    """Return the keys of pydantic's location, the value there, and which form it speaks of.

    Where a name or a component may stand: "name", "component", or "other" for the form that was
    not meant.
    """
    steps, form = [], None
    *_, last = item["loc"] or [None]
    for step in item["loc"]:
        if leads_in(values, step):
            values = values[step]
        elif step in ("str", "Slot", "EncoderSlot"):
            form = "name" if step == "str" else "component"
            if isinstance(values, dict) == (step == "str"):
                form = "other"
            continue
        elif step is not last or item["type"] != "missing":
            continue  # a branch of another union
        steps.append(str(step))
    return steps, values, form


def _section(steps: Sequence[str]) -> list[str]:
    """Return the keys that the section of this path can have."""
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


def _places(values: Mapping[str, Any]) -> Iterator[tuple[str, str, type[Slot], Any]]:
    """Yield every place for a component: path, kind wanted, form, and what stands there."""
    forms: dict[str, type[Slot]] = {
        "encoders": EncoderSlot,
        "modules": TrainedSlot,
        "objectives": ObjectiveSlot,
    }

    def entries(section: Any) -> Iterable[tuple[str, Any]]:
        return section.items() if isinstance(section, dict) else ()

    for name, stream in entries(values.get("streams")):
        for kind in ("tokenizer", "encoder", "reader"):
            form = EncoderSlot if kind == "encoder" else Slot
            if isinstance(stream, dict):
                yield f"streams.{name}.{kind}", kind, form, stream.get(kind)
    for part, kind in _KINDS.items():
        for name, slot in entries(values.get(part)):
            yield f"{part}.{name}", kind, forms.get(part, Slot), slot
    data = values.get("data")
    for name, slot in entries(data.get("sources") if isinstance(data, dict) else None):
        yield f"data.sources.{name}", "source", SourceSlot, slot


def _check_slot(
    where: str, kind: str, form: type[Slot], slot: Any, plugins: Plugins, refusals: Refusals
) -> list[Problem]:
    """Check a component by name and the text of its constructor."""
    if not isinstance(slot, dict) or not isinstance(slot.get("use"), str):
        return []  # the shape of the config says what is wrong
    try:
        component = plugins.find(slot["use"], kind)
    except PluginError as error:
        return [(f"{where}.use", str(error))]
    options = {key: value for key, value in slot.items() if key not in form.model_fields}
    return [
        (f"{where}.{option}" if option else where, text)
        for option, text in check_options(component, options, refusals)
    ]


def _check_names(config: Config, plugins: Plugins) -> list[Problem]:
    """Check the names of parts, and where streams name a tokenizer or an encoder."""
    problems: list[Problem] = []
    sections = {part: getattr(config, part) for part in ("streams", *_KINDS)}
    for part, section in {**sections, "data.sources": config.data.sources}.items():
        for name in section:
            if not _NAME.match(name):
                problems.append((f"{part}.{name}", f"{name!r} is no name: use letters, digits, _"))
            elif name in _TAKEN:
                problems.append((f"{part}.{name}", f"the name {name!r} is taken"))
    for name, stream in config.streams.items():
        for what, value, named in (
            ("tokenizer", stream.tokenizer, config.tokenizers),
            ("encoder", stream.encoder, config.encoders),
        ):
            where = f"streams.{name}.{what}"
            if isinstance(value, str) and value not in named:
                text = f"no {what} is called {value!r} under '{what}s'."
                if value in config.streams:
                    text += f" To share that of the stream {value!r}, move it there."
                else:
                    text += nearest(value, named) or plugins.nearest_component(value, what)
                problems.append((where, text))
            if not isinstance(value, str) and name in named:
                problems.append(
                    (
                        where,
                        f"{name!r} already stands under '{what}s'; write '{what}: {name}' to use "
                        "that one, or rename it",
                    )
                )
    return problems


def _check_whole(config: Config) -> list[Problem]:
    """Check what only a config with every part right in itself can get wrong."""
    problems: list[Problem] = []
    if not config.streams:
        problems.append(("streams", "needs at least one stream"))
    if config.objectives and not config.data.sources:
        problems.append(("data.sources", "needs at least one source"))
    if config.data.sources and all(s.weight == 0 for s in config.data.sources.values()):
        for name in config.data.sources:
            problems.append(
                (f"data.sources.{name}.weight", "every source has weight 0: nothing is trained on")
            )
    if config.trainer.max_steps is None and config.trainer.epochs is None:
        problems.append(("trainer", "needs max_steps or epochs"))
    sizes = {"data.batch_size": config.data.batch_size}
    for name, slot in config.objectives.items():
        where = f"objectives.{name}.batch_size"
        if slot.batch_size is not None:
            sizes[where] = slot.batch_size
            if config.trainer.objectives == "all":
                problems.append(
                    (
                        where,
                        "objectives that share a step share its batch; remove it, or set "
                        "trainer.objectives to one",
                    )
                )
        if slot.group is None and slot.share is not None:
            problems.append(
                (f"objectives.{name}.share", "is a share of a group's samples: give it a group too")
            )
        if slot.group is not None and config.trainer.objectives == "one":
            problems.append(
                (
                    f"objectives.{name}.group",
                    "with trainer.objectives one, a step has one objective and every sample is its "
                    "own; remove one of the two",
                )
            )
    if config.data.tokens is None:
        for where, size in sizes.items():
            if size % config.trainer.accumulate:
                problems.append(
                    (
                        "trainer.accumulate",
                        f"{config.trainer.accumulate} does not divide {where} {size}",
                    )
                )
    return problems


def _check_used(config: Config) -> list[Problem]:
    """Check that every part which others name is named by one."""
    problems: list[Problem] = []
    for what in ("tokenizer", "encoder"):
        used = {getattr(stream, what) for stream in config.streams.values()
                if isinstance(getattr(stream, what), str)}  # fmt: skip
        for name in getattr(config, f"{what}s"):
            if name not in used:
                text = f"no stream has '{what}: {name}'; name it in one, or remove it"
                problems.append((f"{what}s.{name}", text))
    mentioned = {word for _, slot in config.slots().values() for word in words(slot.options)}
    for name in config.modules:
        if name not in mentioned:
            problems.append((f"modules.{name}", "nothing uses it; name it in an objective"))
    return problems


def words(value: Any) -> Iterator[str]:
    """Yield every string within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from words(item)
    elif isinstance(value, list):
        for item in value:
            yield from words(item)
