"""What a shape can't tell: names of parts, options of components, keys that go together."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from polymodal.config.shape import (
    SECTION_KINDS,
    Config,
    EncoderSlot,
    ObjectiveSlot,
    Slot,
    SourceSlot,
    TrainedSlot,
)
from polymodal.ground.errors import PluginError, nearest
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.options import Refusals, check_options, parts_of
from polymodal.plugins.origin import Problem

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Names nn.ModuleDict has as its own attributes.
_TAKEN = {
    *("apply", "clear", "compile", "cpu", "cuda", "double", "eval", "float", "forward", "half"),
    *("items", "keys", "pop", "to", "train", "training", "type", "update", "values"),
}


def refused_names(values: Mapping[str, Any], *, whole: bool) -> Refusals:
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


def places(values: Mapping[str, Any]) -> Iterator[tuple[str, str, type[Slot], Any]]:
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
    for part, kind in SECTION_KINDS.items():
        for name, slot in entries(values.get(part)):
            yield f"{part}.{name}", kind, forms.get(part, Slot), slot
    data = values.get("data")
    for name, slot in entries(data.get("sources") if isinstance(data, dict) else None):
        yield f"data.sources.{name}", "source", SourceSlot, slot


def check_slot(
    where: str, kind: str, form: type[Slot], slot: Any, plugins: Plugins, refusals: Refusals
) -> list[Problem]:
    """Check a component by name and the text of its constructor, and the parts it has."""
    if not isinstance(slot, dict) or not isinstance(slot.get("use"), str):
        return []  # the shape of the config says what is wrong
    try:
        component = plugins.find(slot["use"], kind)
    except PluginError as error:
        return [(f"{where}.use", str(error))]
    options = {key: value for key, value in slot.items() if key not in form.model_fields}
    problems = [
        (f"{where}.{option}" if option else where, text)
        for option, text in check_options(component, options, refusals)
    ]
    for option, part in parts_of(component).items():
        held = options.get(option)
        if isinstance(held, dict) and not isinstance(held.get("use"), str):
            problems.append((f"{where}.{option}", f"names no {part}: write use: plugin.component"))
        problems += check_slot(f"{where}.{option}", part, Slot, held, plugins, refusals)
    return problems


def check_names(config: Config, plugins: Plugins) -> list[Problem]:
    """Check the names of parts, and where streams name a tokenizer or an encoder."""
    problems: list[Problem] = []
    sections = {part: getattr(config, part) for part in ("streams", *SECTION_KINDS)}
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


def check_whole(config: Config) -> list[Problem]:
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


def check_training(config: Config) -> list[Problem]:
    """Check what makes a training none, or another one than it says. A model loads all the same."""
    trainer, sources = config.trainer, config.data.sources
    problems: list[Problem] = []
    given = {name: slot.weight for name, slot in sources.items() if slot.weight}
    by_rows = [name for name, slot in sources.items() if slot.weight is None]
    for name in by_rows if given else ():
        problems.append(
            (
                f"data.sources.{name}",
                f"has no weight, but {next(iter(given))!r} has one: a weight is a share of the "
                "samples, and rows can't be added to it. Give every source a weight (0 for one "
                "that is only evaluated on), or none",
            )
        )
    if trainer.max_steps is not None and trainer.epochs is not None:
        problems.append(("trainer.epochs", "max_steps says how long, too: give one of the two"))
    if trainer.max_steps == 0:
        return problems
    nothing = "; or set trainer.max_steps to 0, to save the model as it is"
    if not config.objectives:
        problems.append(("objectives", f"there is nothing to train: name one{nothing}"))
    elif all(slot.weight == 0 for slot in config.objectives.values()):
        for name in config.objectives:
            problems.append(
                (
                    f"objectives.{name}.weight",
                    f"every objective has weight 0: nothing is trained{nothing}",
                )
            )
    return problems


def check_used(config: Config) -> list[Problem]:
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
