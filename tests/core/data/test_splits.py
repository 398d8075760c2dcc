import numpy as np
import pytest

from polymodal import DataError, Source, UnreadableError
from polymodal.config.shape import SplitConfig
from polymodal.data.splits import SPLITS, SplitSource


class Rows(Source):
    def __init__(self, rows):
        self._rows = rows

    def __len__(self):
        return len(self._rows)

    def columns(self):
        return tuple(self._rows[0]) if self._rows else ()

    def row(self, index):
        return self._rows[index]


def split(rows, **options):
    return SplitSource("rows", Rows(rows), split=SplitConfig(**options))


def test_shares_are_exact_and_cover_every_row_once():
    source = split([{"a": i} for i in range(100)], validation=0.2, test=0.1)
    assert [source.size(name) for name in SPLITS] == [70, 20, 10]
    rows = np.concatenate([source.rows_of(name) for name in SPLITS])
    assert sorted(rows) == list(range(100))


def test_rows_of_one_group_stay_together():
    rows = [{"speaker": i % 7} for i in range(70)]
    source = split(rows, validation=0.3, by="speaker")
    homes = [{rows[i]["speaker"] for i in source.rows_of(name)} for name in SPLITS]
    assert homes[0] and homes[1] and not homes[0] & homes[1]


def test_a_column_may_say_the_split():
    names = ["train", "test", "validation", "Train", "val", " dev", "VALID", "none", None]
    source = split([{"fold": n} for n in names], column="fold", leave_out=["none", None])
    assert [list(source.rows_of(name)) for name in SPLITS] == [[0, 3], [2, 4, 5, 6], [1]]


def test_a_value_that_is_no_split_is_named_with_its_count_unless_left_out():
    rows = [{"fold": value} for value in ("train", "extra", "extra", "test", None, "")]
    with pytest.raises(DataError, match=r"says 'extra' in 2, nothing \(null\) in 2 of 6 rows.*lea"):
        split(rows, column="fold").size("train")
    with pytest.raises(DataError, match="but says 'extra' in 2 of 6"):
        split(rows, column="fold", leave_out=[None]).size("train")
    assert split(rows, column="fold", leave_out=["extra", None]).size("train") == 1
    with pytest.raises(ValueError, match="give the column"):
        SplitConfig(leave_out=["extra"])


def test_a_row_that_cannot_be_read_trains_so_that_it_is_counted():
    class Broken(Rows):
        def row(self, index):
            if index == 1:
                raise UnreadableError("broken")
            return super().row(index)

    source = SplitSource("rows", Broken([{"fold": "train"}, {}]), split=SplitConfig(column="fold"))
    assert list(source.rows_of("train")) == [0, 1]


def test_a_column_that_says_something_else_is_refused():
    with pytest.raises(DataError, match="must say train, validation or test, but says '1'"):
        split([{"fold": 1}], column="fold").size("train")
    with pytest.raises(DataError, match="no column 'fld'. Did you mean 'fold'"):
        split([{"fold": 1}], column="fld").size("train")


def test_fields_are_renamed_and_hidden():
    fields = {"image": "file", "text": None}
    source = SplitSource("rows", Rows([{"file": "a.png", "text": "x", "label": 1}]), fields=fields)
    assert source.read("train", [0]) == [{"label": 1, "image": "a.png"}]
    assert set(source.fields()) == {"image", "label"}


def test_renaming_a_column_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"fields\.image: the source has no column 'fil'"):
        SplitSource("rows", Rows([{"file": 1}]), fields={"image": "fil"}).fields()


def test_a_field_may_come_from_the_first_of_several_columns():
    rows = [{"jpg": 1, "png": None}, {"jpg": None, "png": 2}, {"jpg": 3, "png": 4}, {}]
    source = SplitSource("rows", Rows(rows), fields={"image": ["jpg", "png"]})
    assert source.fields() == ("image",)
    assert [row["image"] for row in source.read("train", range(4))] == [1, 2, 3, None]
    with pytest.raises(DataError, match=r"fields\.image: the source has no column 'gif'"):
        SplitSource("rows", Rows(rows), fields={"image": ["jpg", "gif"]}).fields()


def test_where_no_row_can_be_read_a_missing_column_says_why():
    class Broken(Rows):
        def columns(self):
            return ()

        def row(self, index):
            raise UnreadableError("line 2 is not utf-8 text")

    with pytest.raises(DataError, match=r"fields\.a: the first row can't be read: line 2 is not"):
        SplitSource("rows", Broken([1]), fields={"a": "b"}).fields()
    with pytest.raises(DataError, match="has no rows"):
        SplitSource("rows", Rows([]), fields={"a": "b"}).fields()


def test_an_empty_source_has_empty_splits():
    source = split([], validation=0.5)
    assert [source.size(name) for name in SPLITS] == [0, 0, 0]


def test_columns_can_be_gathered_into_one_value():
    rows = [{"a": 1, "b": 2, "c": 3}, {"a": None, "b": None, "c": 4}]
    fields = {"both": {"first": "a", "second": "b"}, "a": {"only": "a"}, "d": "c"}
    source = SplitSource("rows", Rows(rows), fields=fields)
    assert source.fields() == ("b", "d", "both", "a")
    assert source.read("train", [0, 1]) == [
        {"b": 2, "d": 3, "both": {"first": 1, "second": 2}, "a": {"only": 1}},
        {"b": None, "d": 4, "both": None, "a": None},
    ]
    with pytest.raises(DataError, match=r"fields\.both\.first: the source has no column 'aa'"):
        SplitSource("rows", Rows(rows), fields={"both": {"first": "aa"}}).fields()
