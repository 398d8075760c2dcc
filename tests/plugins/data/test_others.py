import subprocess
import sys

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

import polymodal_data
from polymodal import DataError, Plugins
from polymodal_data.hub import Hub
from polymodal_data.memory import Memory
from polymodal_data.text import Text


def test_text_comes_by_line_paragraph_or_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf\r\none\r\ntwo\r\n \r\n\r\nthree\r\n")
    (tmp_path / "b.txt").write_bytes(b"four")
    every = str(tmp_path / "*.txt")
    lines = Text(path=every)
    assert lines.column("text") == ["one", "two", "three", "four"]
    assert lines.column("line") == [2, 3, 6, 1]
    assert lines.row(3)["file"] == str(tmp_path / "b.txt")
    paragraphs = Text(path=every, unit="paragraph")
    assert paragraphs.column("text") == ["one\ntwo", "three", "four"]
    assert paragraphs.column("line") == [2, 6, 1]
    documents = Text(path=every, unit="document")
    assert documents.column("text") == ["one\ntwo\n \n\nthree", "four"]


@pytest.mark.parametrize(("unit", "kept"), [("line", ["ok"]), ("document", [])])
def test_text_of_another_encoding_is_unreadable_in_its_place(tmp_path, unit, kept):
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xe9\nok\n")
    source = Text(path=str(path), unit=unit)
    first, *rest = source.rows(range(len(source)))
    assert "is not utf-8 text (byte 0xe9)" in str(first)
    assert [row["text"] for row in rest] == kept
    assert Text(path=str(path), encoding="latin-1").column("text") == ["café", "ok"]


def test_an_empty_text_has_no_rows_but_its_columns(tmp_path):
    (tmp_path / "a.txt").write_text("\n  \n")
    source = Text(path=str(tmp_path / "a.txt"))
    assert len(source) == 0
    assert source.columns() == ("text", "file", "line")


def test_utf_16_is_read_when_named(tmp_path):
    (tmp_path / "a.txt").write_text("één\ntwee\n", encoding="utf-16")
    assert Text(path=str(tmp_path / "a.txt"), encoding="utf-16").column("text") == ["één", "twee"]


def test_rows_in_memory_are_those_of_the_config():
    source = Memory(rows=[{"text": "a"}, {"label": 1, "text": None}])
    assert len(source) == 2
    assert source.columns() == ("text", "label")
    assert source.column("label") == [None, 1]


def saved(folder):
    features = Features(
        {
            "image": Image(),
            "views": List(Image()),
            "label": ClassLabel(names=["cat", "dog"]),
            "text": Value("string"),
        }
    )
    held = {"bytes": b"no image at all", "path": None}
    rows = {"image": [held, None], "views": [[held], []], "label": [1, None], "text": ["a", "b"]}
    part = Dataset.from_dict(rows, features=features)
    DatasetDict({"train": part, "valid": part.select([0])}).save_to_disk(folder)
    part.save_to_disk(f"{folder}-single")
    return str(folder)


def test_a_saved_data_set_keeps_splits_names_labels_and_leaves_media_alone(tmp_path, capfd):
    name = saved(tmp_path / "set")
    capfd.readouterr()
    source = Hub(name=name)
    assert source.column("split") == ["train", "train", "validation"]
    held = {"bytes": b"no image at all", "path": None}
    assert source.row(0) == {
        "image": held, "views": [held], "label": "dog", "text": "a", "split": "train"
    }  # fmt: skip
    assert source.column("label") == ["dog", None, "dog"]
    assert len(Hub(name=name, splits=["valid"])) == 1
    assert Hub(name=f"{name}-single").column("text") == ["a", "b"]
    assert capfd.readouterr() == ("", "")


def test_a_data_set_that_is_not_there_is_named(tmp_path, monkeypatch):
    import datasets

    name = saved(tmp_path / "set")
    with pytest.raises(DataError, match=r"has no split 'vald'. Did you mean 'valid'"):
        len(Hub(name=name, splits=["vald"]))
    with pytest.raises(DataError, match="single table without splits"):
        len(Hub(name=f"{name}-single", splits=["train"]))
    with pytest.raises(DataError, match="not one that save_to_disk wrote"):
        len(Hub(name=str(tmp_path)))

    def unreachable(*arguments, **options):
        raise ConnectionError("no network\nhere")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match="owner/name can't be loaded: no network here"):
        len(Hub(name="owner/name"))


def test_every_source_loads_by_name_and_listing_imports_nothing_heavy():
    plugins = Plugins([])
    plugin = plugins.register("data", polymodal_data)
    assert plugin.status == "ok", plugin.error
    for name in ("table", "text", "folder", "tar", "hub", "memory"):
        assert plugins.find(f"data.{name}", "source").load()
    heavy = "{'torch', 'datasets', 'pyarrow'}"
    code = f"import sys, polymodal_data; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fingerprints_follow_the_rows(tmp_path):
    found = set()
    for number, texts in enumerate((["a", "b"], ["a", "c"], ["a"])):
        Dataset.from_dict({"text": texts}).save_to_disk(str(tmp_path / f"{number}"))
        found |= {Hub(name=str(tmp_path / f"{number}")).fingerprint() for _ in range(2)}
        found.add(Memory(rows=[{"text": text} for text in texts]).fingerprint())
        (tmp_path / "a.txt").write_text("\n".join(texts))
        found.add(Text(path=str(tmp_path / "a.txt")).fingerprint())
    assert len(found) == 9
