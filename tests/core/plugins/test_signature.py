import sys
from dataclasses import replace

import pytest

from polymodal.plugins.options import check_options
from polymodal.plugins.registry import Component
from polymodal.plugins.signature import _inspect, _read, read_signature

COLUMNS = '''
"""Shared by the sources below."""
from typing import Annotated, Literal, TypedDict
from polymodal import Default, Presets

LAYOUTS = {"wide": {"node": "name", "rows": 3}, "long": {"node": "id", "rows": 9}}
Layout = Literal["wide", "long"]

class Rows(TypedDict, total=False):
    """How many rows.

    Args:
        rows: of the table.
    """

    rows: Annotated[int, Default(3)]

class Columns(Rows, total=False):
    """How columns
    are called.

    More of it.

    Args:
        layout: columns by name.
        node: whose name it is,
            on two lines.
    """

    layout: Annotated[Layout | None, Default(None), Presets(LAYOUTS)]
    node: Annotated[str, Default("node")]
    label: str
'''
SOURCES = '''
from typing import Unpack
from polymodal import FilePath
from {columns} import Columns

class Table:
    """A table.

    Args:
        path: of the file.
        columns: see `Columns`.
        node: the component's own words about it.
    """

    def __init__(self, path: FilePath, *, sep: str = ",", **columns: Unpack[Columns]): ...

class Inheriting(Table):
    """The same, by inheritance."""
'''


@pytest.fixture
def target(tmp_path, monkeypatch, request):
    columns, sources = (f"{name}_{abs(hash(tmp_path))}" for name in ("columns", "sources"))
    (tmp_path / f"{columns}.py").write_text(COLUMNS)
    (tmp_path / f"{sources}.py").write_text(SOURCES.format(columns=columns))
    monkeypatch.syspath_prepend(tmp_path)
    yield f"{sources}:Table"
    for name in (columns, sources):
        sys.modules.pop(name, None)


def test_a_groups_options_stand_beside_the_constructors_own(target):
    signature = read_signature(target)
    assert list(signature.options) == ["path", "sep", "layout", "node", "label", "rows"]
    assert list(signature.own) == ["path", "sep"]
    assert signature.groups == {"Columns": "How columns are called."}
    label, rows = signature.options["label"], signature.options["rows"]
    assert label.required and label.annotation is str
    assert (rows.shown, rows.default, rows.summary) == ("int", "3", "of the table.")
    assert rows.group == "Columns"
    assert target.partition(":")[0] not in sys.modules


def test_a_component_may_explain_a_groups_option_in_its_own_words(target):
    assert read_signature(target).options["node"].summary.startswith("the component's own")


def test_presets_say_what_a_name_stands_for(target):
    presets = read_signature(target).options["layout"].presets
    assert presets["long"] == {"node": "id", "rows": 9}


def test_an_inherited_constructor_brings_its_groups(target):
    inherited = read_signature(target.replace("Table", "Inheriting"))
    assert list(inherited.options) == list(read_signature(target).options)


def test_a_group_reads_the_same_from_its_text_and_from_the_class(target):
    """Constructors whose text can't be followed are imported; configs must not see a change."""
    text, imported = _read(target), _inspect(target)
    assert text.groups == imported.groups and text.options.keys() == imported.options.keys()
    for name, option in text.options.items():
        plain = {"shown": "", "summary": ""}
        assert replace(option, **plain) == replace(imported.options[name], **plain)


@pytest.mark.parametrize(
    ("options", "where", "words"),
    [
        ({"nod": "a"}, "nod", "Did you mean 'node'?"),
        ({"rows": "three"}, "rows", "must be int"),
        ({"layout": "wied"}, "layout", "wide"),
    ],
)
def test_a_groups_options_are_checked_like_any_others(target, options, where, words):
    component = Component("sources.table", "source", target, "")
    (problem,) = check_options(component, {"path": "a.csv", "label": "b", **options})
    assert problem[0] == where and words in problem[1]


def test_an_option_of_a_group_without_a_default_is_asked_for(target):
    component = Component("sources.table", "source", target, "")
    ((_, text),) = check_options(component, {"path": "a.csv"})
    assert "needs the option 'label'" in text
