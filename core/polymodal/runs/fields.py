"""Whether the fields that a config's parts read are fields of its sources."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from polymodal.config.shape import Config, Slot
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import DataError, nearest
from polymodal.interfaces.objective import Objective
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.options import check_options
from polymodal.plugins.origin import Problem, one_line


def field_problems(
    config: Config,
    sources: Mapping[str, SplitSource],
    objectives: Mapping[str, Objective],
    plugins: Plugins,
    *,
    read: bool = True,
) -> list[Problem]:
    """Return every field that is read and that no source has, and sources that can't be read.

    Args:
        config: that names them.
        sources: by name.
        objectives: by name, for the fields they read.
        plugins: that supply the components.
        read: look into sources that must read data to know their columns.
    """
    problems: list[Problem] = []
    fields: dict[str, Sequence[str] | None] = {}
    for name, source in sources.items():
        where = f"data.sources.{name}"
        fields[name] = None
        if source.source.columns_from_data and not read:
            continue
        try:
            mistakes = source.mistakes()
            problems += [(f"{where}.{path}", text) for path, text in mistakes]
            fields[name] = None if mistakes else source.fields()
        except DataError as error:
            problems.append((where, one_line(error)))

    def refuse(name: str, among: Iterable[str]) -> str | None:
        found = [fields[source] for source in among]
        known = {field for columns in found for field in columns or ()}
        if None in found or name in known:
            return None
        which = "the source has no" if len(found) == 1 else "no source has a"
        return f"{which} field {name!r}.{nearest(name, known)}"

    for name, stream in config.streams.items():
        where = f"streams.{name}.field" if stream.field else f"streams.{name}"
        if fields and (text := refuse(stream.field or name, fields)):
            problems.append((where, text))
    for name, objective in objectives.items():
        for field in objective.fields():
            if text := refuse(field, fields):
                problems.append(
                    (placed(f"objectives.{name}", config.objectives[name], field), text)
                )
    for where, (kind, slot) in config.slots().items():
        component = plugins.find(slot.use, kind)
        named: list[str] = []
        check_options(component, slot.options, {"source": named.append})
        in_these = partial(refuse, among=named or list(fields))
        found = check_options(component, slot.options, {"field": in_these})
        problems += [(f"{where}.{option}", text) for option, text in found]
    return problems


def placed(where: str, slot: Slot, word: str) -> str:
    """Return the path of the option that says a word, or of the component."""
    for option, value in slot.options.items():
        if value == word:
            return f"{where}.{option}"
        if isinstance(value, list) and word in value:
            return f"{where}.{option}.{value.index(word)}"
    return where
