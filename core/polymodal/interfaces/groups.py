"""Groups of options: what several constructors take under the same names, declared once.

    class Columns(TypedDict, total=False):
        \"\"\"How the columns of a table are called.

Args:
            node: the column of a node's name.
        \"\"\"

        node: Annotated[str, Default("node")]


    class Table:
        def __init__(self, path: FilePath, **columns: Unpack[Columns]):
            node = filled(Columns, columns)["node"]

In a config the options stand beside the component's own (`{use: demo.table, path: a.csv, node:
name}`), and are checked and described as those are; a type checker knows them in Python.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from polymodal.ground.errors import nearest

Group = TypeVar("Group")


@dataclass(frozen=True)
class Default:
    """The mark of an option that may be left out: `width: Annotated[int, Default(64)]`."""

    value: Any


@dataclass(frozen=True)
class Presets:
    """The mark of an option that is a name for values of others: `Presets(SIZES)`.

    Args:
        options: by each value that the option may have, the options it stands for.
    """

    options: Mapping[str, Mapping[str, Any]]


def marked(hint: Any, mark: type[Any]) -> Any:
    """Return the mark of this kind that an annotation bears, or None."""
    if get_origin(hint) is not Annotated:
        return None
    return next((each for each in hint.__metadata__ if isinstance(each, mark)), None)


def hints_of(group: type[Any]) -> dict[str, Any]:
    """Return the annotations of a group's options by name, marks included."""
    return get_type_hints(group, include_extras=True)


def filled(group: type[Group], given: Group) -> Group:
    """Return the options given, and of those left out the defaults.

    Raises:
        TypeError: an option the group does not have, or one left out that has no default.
    """
    hints = hints_of(group)
    options = dict(given)  # type: ignore[call-overload]
    for name in options:
        if name not in hints:
            raise TypeError(f"there is no option {name!r}.{nearest(name, hints)}")
    found = {}
    for name, hint in hints.items():
        default = marked(hint, Default)
        if name in options:
            found[name] = options[name]
        elif default is None:
            raise TypeError(f"the option {name!r} must be given")
        else:
            found[name] = default.value
    return found  # type: ignore[return-value]


def taken(group: type[Group], given: Mapping[str, Any]) -> Group:
    """Return those of the options given that are the group's, for who takes fewer."""
    hints = hints_of(group)
    return {name: value for name, value in given.items() if name in hints}  # type: ignore[return-value]
