import datetime
import decimal
import gzip
import json
import os
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polymodal import DataError, UnreadableError
from polymodal_data import arrow, lines
from polymodal_data.table import Table


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def reasons(source):
    rows = source.rows(range(len(source)))
    return [str(row) if isinstance(row, UnreadableError) else None for row in rows]


def test_a_broken_json_line_keeps_its_place_and_names_its_line(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"x": 1}\n\n{"x": \n[3]\n{"x": 4}\n')
    source = Table(path=path)
    assert len(source) == 4
    assert source.row(0) == {"x": 1}
    assert source.row(3) == {"x": 4}
    assert re.match(r"line 3 of a\.jsonl is not JSON: .* at character \d+$", reasons(source)[1])
    assert reasons(source)[2] == "line 4 of a.jsonl is not an object but an array"
    assert source.column("x") == [1, None, None, 4]
    with pytest.raises(UnreadableError, match="line 3"):
        source.row(1)


def test_json_values_come_back_exactly_whatever_the_other_rows_hold(tmp_path):
    rows = [
        {"a": 1, "b": "x", "c": {"k": [1, {"z": None}]}, "d": True, "n": None},
        {"a": 2.5, "b": 7, "c": [], "d": False},
        {"b": None, "c": "text", "e": 2**70},
        {"a": None, "b": {"other": 1}, "c": {"q": 1}, "e": "late"},
    ]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    source = Table(path=path)
    names = source.columns()
    assert set(names) == {"a", "b", "c", "d", "n", "e"}
    for index, row in enumerate(rows):
        assert source.row(index) == {name: row.get(name) for name in names}
    assert [type(value) for value in source.column("d")[:2]] == [bool, bool]


def test_a_json_array_and_objects_on_lines_under_its_extension_are_the_same(tmp_path):
    array = write(tmp_path / "a.json", '[{"x": 1}, 5, {"x": 2}]')
    lines = write(tmp_path / "b.json", '{"x": 1}\n{"x": \n{"x": 2}\n')
    for path in (array, lines):
        assert Table(path=path).column("x") == [1, None, 2]
    assert reasons(Table(path=array))[1] == "item 2 of a.json is not an object but a number"
    with pytest.raises(DataError, match="is not JSON"):
        len(Table(path=write(tmp_path / "c.json", "nothing of the kind")))


def test_a_csv_line_with_another_number_of_fields_is_unreadable_in_its_place(tmp_path):
    path = write(tmp_path / "a.csv", 'x,text\r\n1,"a, ""b""\nc"\r\n2\r\n\r\n3,d,e\r\n4,\r\n')
    source = Table(path=path)
    assert source.rows([0, 3]) == [{"x": 1, "text": 'a, "b"\nc'}, {"x": 4, "text": None}]
    assert reasons(source)[1] == "line 4 of a.csv has 1 fields; the header names 2"
    assert reasons(source)[2] == "line 6 of a.csv has 3 fields; the header names 2"


def test_an_unclosed_quote_costs_one_line_and_not_the_rest_of_the_file(tmp_path):
    lines = ["x,y", '"oops,1', *(f"{n},{n}" for n in range(50)), 'a,"last"']
    source = Table(path=write(tmp_path / "a.csv", "\n".join(lines)))
    assert len(source) == 52
    assert [row is None for row in reasons(source)] == [False] + [True] * 51
    assert source.row(51) == {"x": "a", "y": "last"}


def test_a_field_longer_than_pythons_own_limit_is_read(tmp_path):
    genome = "ACGT" * 50_000
    assert Table(path=write(tmp_path / "a.csv", f"s\n{genome}\n")).row(0) == {"s": genome}


def test_csv_numbers_are_numbers_only_if_every_value_is_one_and_codes_stay_text(tmp_path):
    text = (
        "i,f,code,mixed,long,gap\n1,1,007,1,12345678901234567890,\n-2,2.5,10,b,1,4\n3,nan,1,2,2,\n"
    )
    source = Table(path=write(tmp_path / "a.csv", text))
    assert source.column("i") == [1, -2, 3]
    assert source.column("f")[:2] == [1.0, 2.5]
    assert source.column("f")[2] != source.column("f")[2]  # NaN stays NaN
    assert source.column("code") == ["007", "10", "1"]
    assert source.column("mixed") == ["1", "b", "2"]
    assert source.column("long") == ["12345678901234567890", "1", "2"]
    assert source.column("gap") == [None, 4, None]


def test_text_that_is_not_utf_8_is_unreadable_and_a_byte_order_mark_is_cut(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfx,y\n1,caf\xe9\n2,ok\n")
    source = Table(path=str(path))
    assert source.columns() == ("x", "y")
    assert reasons(source) == ["line 2 of a.csv is not utf-8 text (byte 0xe9)", None]
    assert Table(path=str(path), encoding="latin-1", names=["x", "y"]).row(1)["y"] == "café"
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"x": "\xff"}\n{"x": "\\ud800"}\n{"x": "\\ud83d\\ude00"}\n')
    source = Table(path=str(path))
    assert [reason is None for reason in reasons(source)] == [False, False, True]
    assert source.row(2) == {"x": "\N{GRINNING FACE}"}


def test_tsv_gzip_globs_and_files_without_header(tmp_path):
    with gzip.open(tmp_path / "1.tsv.gz", "wt") as file:
        file.write("x\ty\n1\ta\n")
    write(tmp_path / "2.tsv", "y\tx\nb\t2\n")
    source = Table(path=[str(tmp_path / "1.tsv.gz"), str(tmp_path / "2.*")])
    assert source.rows([0, 1]) == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    plain = write(tmp_path / "c.csv", "1;a\n2;b\n")
    source = Table(path=plain, names=["x", "y"], delimiter=";")
    assert source.rows([0, 1]) == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]


def test_a_gzip_file_cut_short_gives_its_lines_and_one_unreadable_row(tmp_path):
    import random

    letters = random.Random(0)
    rows = [{"x": "".join(letters.choices("abcdefgh", k=80))} for _ in range(3000)]
    whole = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    source = Table(path=str(path))
    assert source.row(0) == rows[0]
    assert 100 < len(source) < 3000
    assert "cut short after line" in reasons(source)[-1]
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="can't be read"):
        len(Table(path=str(path)))


def test_columns_and_where_choose_and_a_csvs_numbers_match_text(tmp_path):
    path = write(tmp_path / "a.csv", "split,x,y\ntrain,1,a\ntest,2,b\nbroken\ntrain,3,c\n")
    source = Table(path=path, columns=["y"], where={"split": "train"})
    assert source.columns() == ("y",)
    assert source.column("y") == ["a", None, "c"]  # the broken line may have been one of them
    assert Table(path=path, where={"x": [1, 2]}).column("y") == ["a", "b", None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["tetx"]}, "columns: .* has no column 'tetx'. Did you mean 'text'?"),
        ({"files": ["picture"]}, "files: .* has no column 'picture'. Known: label, text."),
        ({"where": {"lable": 1}}, "where: .* has no column 'lable'. Did you mean 'label'?"),
        ({"where": {"label": 9}}, "where: no row of .* has label: "),
    ],
)
@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_a_column_or_value_that_is_not_there_is_named(tmp_path, options, message, extension):
    path = tmp_path / f"a.{extension}"
    if extension == "csv":
        write(path, "text,label\na,1\n")
    else:
        pq.write_table(pa.table({"text": ["a"], "label": [1]}), path)
    with pytest.raises(DataError, match=message):
        len(Table(path=str(path), **options))


def test_paths_in_a_table_are_taken_from_its_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub" / "a.csv", f"image,text\nx/1.png,a\n{tmp_path}/sub/2.png,b\n,c\n")
    source = Table(path=path, files=["image"])
    inside = [str(tmp_path / "sub" / name) for name in ("x/1.png", "2.png")]
    assert source.column("image") == [*inside, None]


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_a_path_that_leads_out_of_the_tables_folder_is_unreadable_unless_allowed(
    tmp_path, extension
):
    tables, elsewhere = tmp_path / "tables", tmp_path / "elsewhere"
    tables.mkdir()
    elsewhere.mkdir()
    (elsewhere / "b.txt").write_text("not the table's")
    (tables / "link.txt").symlink_to(elsewhere / "b.txt")
    (tables / "a.txt").write_text("the table's")
    paths = ["a.txt", "../elsewhere/b.txt", str(elsewhere / "b.txt"), "link.txt", "a\0b", "x" * 999]
    rows = [
        {"one": path, "many": [None, path], "record": {"path": path, "bytes": None}}
        for path in paths
    ]
    path = tables / f"t.{extension}"
    if extension == "jsonl":
        write(path, "\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    for field in ("one", "many", "record"):
        found = reasons(Table(path=str(path), files=[field]))
        assert [reason is None for reason in found] == [True] + 5 * [False]
        for reason in found[1:4]:
            assert f"outside of {tables}. If the data may open it" in reason
            assert f"allow: [{elsewhere}]" in reason
        found = reasons(Table(path=str(path), files=[field], allow=[str(elsewhere)]))
        assert [reason is None for reason in found] == 4 * [True] + 2 * [False]
    row = Table(path=str(path), files=["one", "many", "record"]).row(0)
    here = str(tables / "a.txt")
    assert row == {"one": here, "many": [None, here], "record": {"path": here, "bytes": None}}


def test_a_link_that_a_glob_finds_may_not_lead_out_and_one_written_out_may(tmp_path):
    (tmp_path / "tables").mkdir()
    write(tmp_path / "a.jsonl", '{"x": 1}')
    (tmp_path / "tables" / "a.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="leads to .* outside of"):
        len(Table(path=str(tmp_path / "tables" / "*.jsonl")))
    assert len(Table(path=str(tmp_path / "tables" / "*.jsonl"), allow=[str(tmp_path)])) == 1
    assert len(Table(path=str(tmp_path / "tables" / "a.jsonl"))) == 1


def test_parquet_keeps_its_types_and_images_are_not_decoded(tmp_path):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    schema = pa.schema(
        [("image", image), ("v", pa.list_(pa.float32())), ("x", pa.int8())],
        metadata={"huggingface": json.dumps(features)},
    )
    rows = [
        {"image": {"bytes": b"not an image", "path": "a.png"}, "v": [0.5, 1.0], "x": 3},
        {"image": None, "v": None, "x": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "1.parquet")
    pq.write_table(pa.table({"x": [1.5]}), tmp_path / "2.parquet")
    source = Table(path=str(tmp_path / "*.parquet"))
    assert source.rows([0, 1]) == rows
    assert source.row(2) == {"image": None, "v": None, "x": 1.5}
    picked = Table(path=str(tmp_path / "*.parquet"), where={"x": 3}, columns=["v"])
    assert picked.rows(range(len(picked))) == [{"v": [0.5, 1.0]}]
    (tmp_path / "3.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match="no Parquet that can be read"):
        len(Table(path=str(tmp_path / "3.parquet")))


def test_a_missing_file_is_named_with_its_nearest_neighbour(tmp_path):
    write(tmp_path / "captions.csv", "x\n1\n")
    with pytest.raises(DataError, match=r"caption\.csv: no such file. Did you mean 'captions.csv'"):
        len(Table(path=str(tmp_path / "caption.csv")))
    with pytest.raises(DataError, match="is a folder; name its files"):
        len(Table(path=str(tmp_path)))
    with pytest.raises(DataError, match=r"no file matches .*\*\.jsonl"):
        len(Table(path=str(tmp_path / "*.jsonl")))
    with pytest.raises(DataError, match="Nor is there a folder"):
        len(Table(path=str(tmp_path / "none" / "a.csv")))


def test_headers_formats_and_options_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(DataError, match="names 'x' twice"):
        len(Table(path=write(tmp_path / "a.csv", "x,x\n1,2\n")))
    with pytest.raises(DataError, match="is empty"):
        len(Table(path=write(tmp_path / "c.csv", "")))
    with pytest.raises(DataError, match="a table must end in"):
        len(Table(path=write(tmp_path / "d.xlsx", "")))
    write(tmp_path / "e.jsonl", "{}")
    with pytest.raises(DataError, match="one format at a time, got .csv and .jsonl"):
        len(Table(path=[str(tmp_path / "a.csv"), str(tmp_path / "e.jsonl")]))
    for options in ({"path": []}, {"path": "a", "delimiter": "||"}, {"path": "a", "columns": []},
                    {"path": "a", "encoding": "utf-9"}):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            Table(**options)


def test_a_source_reads_nothing_until_asked_and_can_be_pickled(tmp_path):
    source = Table(path=str(tmp_path / "later.jsonl"))
    write(tmp_path / "later.jsonl", '{"x": [1, 2]}\n{"x": null}\n')
    for _ in range(2):  # before the first read and after it
        copy = pickle.loads(pickle.dumps(source))
        assert copy.rows([1, 0]) == [{"x": None}, {"x": [1, 2]}]
        assert len(source) == 2


def test_an_empty_table_has_no_rows(tmp_path):
    source = Table(path=write(tmp_path / "a.jsonl", ""))
    assert len(source) == 0
    assert source.rows([]) == []
    assert source.columns() == ()


def test_lists_of_8_and_16_bit_integers_keep_their_type_and_others_stay_lists(tmp_path):
    samples = np.array([0, 1000, -32768], np.int16)
    held = pa.struct({"array": pa.list_(pa.int16()), "sampling_rate": pa.int64()})
    columns = {
        "audio": pa.array([samples, samples], pa.list_(pa.int16())),
        "held": pa.array([{"array": samples, "sampling_rate": 8000}, None], held),
        "stereo": pa.array([[samples, samples]] * 2, pa.list_(pa.list_(pa.int16()))),
        "labels": pa.array([[1, 2], [3]], pa.list_(pa.int32())),
        "gaps": pa.array([[1, None], [2]], pa.list_(pa.int8())),
    }
    pq.write_table(pa.table(columns), tmp_path / "pcm.parquet")
    row = Table(path=str(tmp_path / "pcm.parquet")).row(0)
    for found in (row["audio"], row["held"]["array"], row["stereo"][1]):
        assert found.dtype == np.int16
        assert found.tolist() == samples.tolist()
    assert row["labels"] == [1, 2]
    assert row["gaps"] == [1, None]


def test_every_layout_of_text_is_text_and_other_types_come_as_plain_values(tmp_path):
    word, number = ["a", None], [decimal.Decimal("1.5"), None]
    pairs = pa.map_(pa.string(), pa.list_(pa.map_(pa.string(), pa.int64())))
    columns = {
        "string": pa.array(word),
        "large": pa.array(word, pa.large_string()),
        "view": pa.array(word, pa.string_view()),
        "dictionary": pa.array(word, pa.large_string()).dictionary_encode(),
        "json": pa.array(word, pa.json_(pa.string())),
        "binary": pa.array([b"a", None]),
        "binary_view": pa.array([b"a", None], pa.binary_view()),
        "fixed": pa.array([b"a", None], pa.binary(1)),
        "decimal": pa.array(number),
        "whole": pa.array([decimal.Decimal(1), decimal.Decimal(2)], pa.decimal128(18, 0)),
        "id": pa.array([decimal.Decimal(7), None], pa.decimal256(40, 0)),
        "half": pa.array([1.5, None], pa.float16()),
        "time": pa.array([1, None], pa.timestamp("us", "Europe/Berlin")),
        "large_list": pa.array([[1], None], pa.large_list(pa.int64())),
        "fixed_list": pa.array([[1, 2], None], pa.list_(pa.int64(), 2)),
        "nothing": pa.nulls(2),
        "map": pa.array([[("k", [[("n", 1)]])], None], pairs),
        "deep": pa.array([{"v": number[:1], "m": [("k", "v")]}, None], pa.struct(
            [("v", pa.list_(pa.decimal128(5, 2))), ("m", pa.map_(pa.string(), pa.string()))]
        )),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8.0).reshape(2, 2, 2)),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    source = Table(path=str(tmp_path / "t.parquet"))
    first, second = source.rows([0, 1])
    stamp = first.pop("time")
    assert stamp.utcoffset() == datetime.timedelta(hours=1)
    assert first == {
        **dict.fromkeys(("string", "large", "view", "dictionary", "json"), "a"),
        **dict.fromkeys(("binary", "binary_view", "fixed"), b"a"),
        "decimal": 1.5, "whole": 1, "id": "7", "half": 1.5, "large_list": [1],
        "fixed_list": [1, 2], "nothing": None, "map": {"k": [{"n": 1}]},
        "deep": {"v": [1.5], "m": {"k": "v"}}, "tensor": [[0.0, 1.0], [2.0, 3.0]],
    }  # fmt: skip
    assert all(value is None for name, value in second.items() if name not in ("whole", "tensor"))
    assert source.column("map") == [{"k": [{"n": 1}]}, None]
    texts = ["string", "large", "view", "dictionary"]
    located = Table(path=str(tmp_path / "t.parquet"), files=texts, columns=texts)
    assert located.row(0) == dict.fromkeys(texts, str(tmp_path / "a"))


@pytest.mark.parametrize("kind", [pa.list_view(pa.string()), pa.month_day_nano_interval()])
def test_types_that_parquet_does_not_hold_are_made_plain_too(kind):
    values = {True: [["a"], None], False: [(1, 2, 3), None]}[pa.types.is_list_view(kind)]
    array = pa.array(values, kind)
    assert arrow.plain(array).type == arrow.plain_type(kind)
    union = pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]
    )
    assert arrow.plain(union).to_pylist() == ["1", '"b"']
    ends = pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"])
    assert arrow.plain(ends).to_pylist() == ["a", "a", "b"]
    assert arrow.is_text(ends.type)


def test_parquet_text_that_is_not_utf_8_costs_its_row(tmp_path):
    held = pa.array([b"ok", b"\xff\xfe", b"fine"])
    text = pa.Array.from_buffers(pa.string(), 3, held.buffers())
    deep = pa.StructArray.from_arrays([text], ["t"])
    pq.write_table(pa.table({"x": [1, 2, 3], "text": text, "deep": deep}), tmp_path / "t.parquet")
    source = Table(path=str(tmp_path / "t.parquet"))
    assert reasons(source) == [None, "row 1 of t.parquet: 'text' is not UTF-8 text", None]
    assert Table(path=str(tmp_path / "t.parquet"), columns=["x"]).column("x") == [1, 2, 3]
    assert Table(path=str(tmp_path / "t.parquet"), columns=["x"], where={"x": "3"}).row(0) == {
        "x": 3
    }
    chosen = Table(path=str(tmp_path / "t.parquet"), where={"text": "fine"}, columns=["x"])
    assert [row is None for row in reasons(chosen)] == [False, True]


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns are called 'x'"):
        len(Table(path=str(tmp_path / "t.parquet")))


def test_pandas_nameless_index_keeps_its_name_and_ends_of_lines_make_no_column(tmp_path):
    source = Table(path=write(tmp_path / "a.csv", ",text\n0,a\n1,b\n"))
    assert source.row(1) == {"Unnamed: 0": 1, "text": "b"}
    for text in ("x,y,\n1,2,\n", "x,y\n1,2,\n", "x,y,,\n1,2\n"):
        assert Table(path=write(tmp_path / "b.csv", text)).rows([0]) == [{"x": 1, "y": 2}]
    source = Table(path=write(tmp_path / "c.csv", "x,y,\n1,2,3\n"))
    assert reasons(source) == ["line 2 of c.csv has 3 fields; the header names 2"]


def test_codes_with_leading_zeros_stay_text_in_fractions_too_and_large_numbers_keep_all_digits(
    tmp_path,
):
    text = "a,b,c,d\n007.5,01e5,9007199254740993,0.5\n1.5,1e5,0.5,1e3\n"
    source = Table(path=write(tmp_path / "a.csv", text))
    assert source.column("a") == ["007.5", "1.5"]
    assert source.column("b") == ["01e5", "1e5"]
    assert source.column("c") == ["9007199254740993", "0.5"]
    assert source.column("d") == [0.5, 1000.0]
    rows = [{"x": 0.5}, {"x": 2**53 + 1}]
    source = Table(path=write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert source.column("x") == [0.5, 2**53 + 1]


def test_an_array_in_jsonl_is_read_and_a_key_twice_is_unreadable(tmp_path):
    for text in ('[{"x": 1},\n {"x": 2}]\n', '[{"x": 1}, {"x": 2}]'):
        assert Table(path=write(tmp_path / "a.jsonl", text)).column("x") == [1, 2]
    source = Table(path=write(tmp_path / "b.jsonl", '{"x": 1, "x": 2}\n{"x": 3}\n'))
    assert source.column("x") == [None, 3]
    assert "line 1 of b.jsonl is not JSON: an object names 'x' twice" in reasons(source)[0]


def test_a_table_of_another_encoding_delimiter_or_without_rows_keeps_its_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("picture,text\na.png,é\nb.png,è\n".encode("latin-1"))
    source = Table(path=str(path), files=["picture"])
    assert source.columns() == ("picture", "text")
    assert all("is not utf-8 text (byte 0xe" in reason for reason in reasons(source))
    assert Table(path=write(tmp_path / "b.csv", "x,y\n")).columns() == ("x", "y")
    with pytest.raises(DataError, match="separated by ';': set delimiter: ';'"):
        len(Table(path=write(tmp_path / "c.csv", "x;y\n1;2\n")))
    assert Table(path=write(tmp_path / "d.csv", "text\na; b\n")).column("text") == ["a; b"]


def test_a_missing_relative_path_says_from_where_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pattern in ("none.csv", "*.csv"):
        with pytest.raises(DataError, match=re.escape(f"It is taken from {tmp_path}")):
            len(Table(path=pattern))


def test_gzip_is_told_by_its_content_and_members_follow_each_other(tmp_path):
    parts = gzip.compress(b'{"x": 1}\n') + gzip.compress(b'{"x": 2}\n')
    for name in ("a.jsonl.gz", "b.jsonl"):
        (tmp_path / name).write_bytes(parts)
        assert Table(path=str(tmp_path / name)).column("x") == [1, 2]


def test_a_line_without_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_MOST", 100)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write('{"x": 1}\n{"x": "' + 1000 * "a" + '"}\n')
    source = Table(path=str(tmp_path / "a.jsonl.gz"))
    assert source.row(0) == {"x": 1}
    assert "line 2 of a.jsonl.gz has more than 100 characters" in reasons(source)[1]


def test_a_fingerprint_follows_content_and_not_times_or_places(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"x": 1}\n')
    before = Table(path=path).fingerprint()
    state = os.stat(path)
    write(tmp_path / "a.jsonl", '{"x": 2}\n')  # as long as before
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert Table(path=path).fingerprint() != before
    (tmp_path / "copy").mkdir()
    copy = write(tmp_path / "copy" / "a.jsonl", '{"x": 1}\n')
    os.utime(copy, ns=(1, 1))
    assert Table(path=copy).fingerprint() == before
