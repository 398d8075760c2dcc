from typing import Annotated, TypedDict

import pytest

from polymodal import Default, filled, taken


class Blocks(TypedDict, total=False):
    norm: Annotated[str, Default("pre")]
    dropout: Annotated[float, Default(0.0)]


class Sizes(Blocks, total=False):
    width: int
    heads: Annotated[int | None, Default(None)]


def test_what_is_left_out_has_its_default():
    assert filled(Sizes, {"width": 8, "dropout": 0.5}) == {
        "norm": "pre",
        "dropout": 0.5,
        "width": 8,
        "heads": None,
    }


def test_what_is_given_is_kept_even_where_it_is_false():
    assert filled(Blocks, {"dropout": 0, "norm": ""}) == {"dropout": 0, "norm": ""}


def test_a_misspelt_option_is_refused_in_python_too():
    """Keyword arguments of a group reach the constructor unchecked."""
    with pytest.raises(TypeError, match=r"no option 'widht'.*width"):
        filled(Sizes, {"widht": 8})


def test_an_option_without_a_default_must_be_given():
    with pytest.raises(TypeError, match="'width' must be given"):
        filled(Sizes, {})


def test_fewer_options_are_taken_for_who_takes_fewer():
    assert taken(Blocks, {"width": 8, "norm": "post"}) == {"norm": "post"}
