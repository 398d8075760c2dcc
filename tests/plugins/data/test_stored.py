import json
import os

import pytest

from polymodal import DataError
from polymodal_data import stored
from polymodal_data.columns import Columns
from polymodal_data.delimited import Unreadable, split_record
from polymodal_data.table import Table


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, and no table small enough for memory."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(stored, "IN_MEMORY", 0)
    return tmp_path / "cache" / "polymodal"


def rows_of(source):
    return source.rows(range(len(source)))


def test_a_large_table_is_written_once_and_mapped(tmp_path, cache, monkeypatch, capfd):
    path = tmp_path / "a.jsonl"
    rows = [{"x": n, "deep": {"n": [n]}} for n in range(2500)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert rows_of(Table(path=str(path))) == rows
    assert [file.suffix for file in cache.iterdir()] == [".arrow"]

    def never(*arguments, **options):
        raise AssertionError("read again")

    monkeypatch.setattr("polymodal_data.table.write_records", never)
    again = Table(path=str(path))
    assert rows_of(again) == rows
    assert again.column("deep")[7] == {"n": [7]}
    assert capfd.readouterr() == ("", "")  # no progress bar, no word


def test_changed_content_or_options_are_noticed(tmp_path, cache):
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": 1, "y": 1}\n')
    os.utime(path, ns=(1, 1))
    assert Table(path=str(path)).column("x") == [1]
    path.write_text('{"x": 2, "y": 2}\n')  # the same size
    os.utime(path, ns=(2, 2))
    assert Table(path=str(path)).column("x") == [2]
    assert Table(path=str(path), columns=["y"]).columns() == ("y",)
    assert len(list(cache.iterdir())) == 3


def test_a_failure_leaves_nothing_behind(tmp_path, cache):
    path = tmp_path / "a.csv"
    path.write_text("x,x\n1,2\n")
    for _ in range(2):
        with pytest.raises(DataError, match="twice"):
            len(Table(path=str(path)))
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, cache):
    cache.parent.write_text("a file, so no folder can be made")
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": 1}\n')
    assert Table(path=str(path)).column("x") == [1]


def test_unreadable_rows_survive_the_cache(tmp_path, cache):
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": 1}\nbroken\n')
    for _ in range(2):
        first, second = rows_of(Table(path=str(path)))
        assert first == {"x": 1}
        assert str(second).startswith("line 2 of a.jsonl")


def test_records_split_like_pythons_own_reader():
    import csv

    for line in ("a,b", "a", ",", '"a,b",c', '"a ""q"" b",', 'a"b,c"', '"","x"', '"a"b,c', '""'):
        assert split_record(line, ",") == next(csv.reader([line]))
    assert split_record('a,"open', ",") is None
    assert split_record('"ends in quotes""', ",") is None


def test_kinds_widen_and_never_lose_a_value():
    columns = Columns()
    for value in (None, 1, 2.5):
        columns.see({"x": value})
    assert columns.batch([{"x": 1}, {}])["x"].to_pylist() == [1.0, None]
    columns.see({"x": "text"})
    assert columns.encoded == ["x"]
    text = Columns(text=True)
    for value in ("1", "2.5", "-inf"):
        text.see({"x": value})
    assert text.batch([{"x": "1"}, {"x": "-inf"}])["x"].to_pylist() == [1.0, float("-inf")]
    text.see({"x": "n/a"})
    assert text.batch([{"x": "1"}])["x"].to_pylist() == ["1"]


def test_records_of_unreadable_rows_alone_have_no_columns(tmp_path):
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    stored.write_records(sink, lambda: [Unreadable("why")] * 2, Columns())
    rows = stored.StoredRows.of_table(pa.ipc.open_stream(sink.getvalue()).read_all())
    assert rows.columns == ()
    assert [str(row) for row in rows.rows([0, 1])] == ["why", "why"]
