import gzip
import io
import json
import os
import tarfile

import pytest

from polymodal import DataError, UnreadableError
from polymodal_data import archive
from polymodal_data.folder import Folder
from polymodal_data.tar import Tar


def pack(path, files, *, mode="w", extra=()):
    """Write a tar of names and bytes, and further members as they are."""
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return str(path)


EMOJI = {
    "metadata.csv": b"file_name,text,code\ni/a.png,grin,1\ni/none.png,gone,2\ni/b.png,,3\nx\n",
    "i/a.png": b"AAA",
    "i/b.png": b"BB",
    "i/unnamed.png": b"-",
}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_metadata_table_gives_the_rows_of_a_tar(tmp_path, mode):
    source = Tar(path=pack(tmp_path / "e.tar", EMOJI, mode=mode))
    first, gone, third, broken = source.rows(range(len(source)))
    assert first == {
        "file": {"path": "i/a.png", "bytes": b"AAA"},
        "file_name": "i/a.png",
        "text": "grin",
        "code": 1,
    }
    assert third["file"]["bytes"] == b"BB"
    assert third["text"] is None
    assert str(gone) == "i/none.png is not in e.tar"
    assert "line 5 of metadata.csv has 1 fields" in str(broken)
    assert source.columns() == ("file", "file_name", "text", "code")
    assert source.column("file")[2] == {"path": "i/b.png", "bytes": b"BB"}
    assert source.column("text") == ["grin", None, None, None]


def test_jsonl_metadata_keeps_values_and_names_below_its_own_folder(tmp_path):
    lines = b'{"file_name": "a.wav", "n": "1", "deep": [1]}\n{"file_name": 5}\n'
    source = Tar(path=pack(tmp_path / "e.tar", {"top/metadata.jsonl": lines, "top/a.wav": b"x"}))
    row, nameless = source.rows([0, 1])
    assert row["file"] == {"path": "top/a.wav", "bytes": b"x"}
    assert row["n"] == "1"
    assert row["deep"] == [1]
    assert str(nameless) == "metadata.jsonl names no file: file_name is 5"


def test_web_data_set_members_group_by_key(tmp_path):
    first = {
        "s/1.jpg": b"J1", "s/1.txt": b" a cat\n", "s/1.cls": b"3",
        "s/2.txt": b"alone", "s/2.seg.png": b"P",
        "s/3.jpg": b"J3", "s/3.json": b'{"caption": "c", "size": [1, 2]}',
    }  # fmt: skip
    second = {"s/4.jpg": b"J4", "s/4.txt": b"\xff", "s/5.json": b"{", "s/5.jpg": b"J5"}
    pack(tmp_path / "000.tar", first)
    pack(tmp_path / "001.tar", second)
    source = Tar(path=str(tmp_path / "*.tar"))
    rows = source.rows(range(len(source)))
    assert len(rows) == 5
    assert rows[0]["jpg"] == {"path": "s/1.jpg", "bytes": b"J1"}
    assert (rows[0]["key"], rows[0]["txt"], rows[0]["cls"]) == ("s/1", "a cat", 3)
    assert rows[1]["seg.png"] == {"path": "s/2.seg.png", "bytes": b"P"}
    assert rows[1]["jpg"] is None
    assert (rows[2]["caption"], rows[2]["size"]) == ("c", [1, 2])
    assert str(rows[3]) == "s/4.txt is not UTF-8 text"
    assert str(rows[4]).startswith("s/5.json is not JSON")


def test_files_alone_have_their_folder_as_label(tmp_path):
    files = {"cat/a.png": b"1", "dog/b.PNG": b"2", "README": b"-", ".hidden/c.png": b"3"}
    source = Tar(path=pack(tmp_path / "e.tar", files))
    assert source.column("label") == ["cat", "dog"]
    assert source.row(1)["file"] == {"path": "dog/b.PNG", "bytes": b"2"}


def test_a_tar_cut_short_keeps_what_it_has_and_says_what_it_lost(tmp_path):
    files = {f"{n}.wav": bytes([n]) * 2000 for n in range(4)}
    path = tmp_path / "e.tar"
    pack(path, {"metadata.csv": b"file_name\n0.wav\n2.wav\n3.wav\n", **files})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\2" * 100) + 1000])
    source = Tar(path=str(path))
    rows = source.rows(range(len(source)))
    assert rows[0]["file"]["bytes"] == b"\0" * 2000
    assert str(rows[1]) == "2.wav is cut short"
    assert str(rows[2]) == "3.wav is not in e.tar, which is damaged"
    assert "its end is missing" in str(rows[3])
    packed = tmp_path / "f.tar.gz"
    whole = gzip.compress(content + os.urandom(5000))
    packed.write_bytes(whole[:-2500])
    assert "its end is missing" in str(Tar(path=str(packed)).rows([3])[0])


def test_what_vanishes_after_the_index_was_made_is_one_unreadable_row(tmp_path):
    path = pack(tmp_path / "e.tar", {"a.png": b"1" * 3000, "b.png": b"2" * 3000})
    source = Tar(path=path)
    assert len(source) == 2
    os.truncate(path, 5000)
    first, second = source.rows([0, 1])
    assert first["file"]["bytes"] == b"1" * 3000
    assert isinstance(second, UnreadableError)
    os.remove(path)
    assert isinstance(source.rows([0])[0], UnreadableError)


def test_links_and_names_that_climb_out_reach_nothing(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.png")
    table = b"file_name\nlink.png\n../secret.png\n" + str(tmp_path / "secret.png").encode() + b"\n"
    path = pack(tmp_path / "e.tar", {"metadata.csv": table, "ok.png": b"1"}, extra=[link])
    rows = Tar(path=path).rows(range(3))
    assert all("is not in e.tar" in str(row) for row in rows)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "metadata.csv").write_bytes(table)
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    assert all(
        "lies outside the folder" in str(row) for row in Folder(folder=str(folder)).rows(range(3))
    )


def test_a_large_compressed_tar_is_kept_plain_in_the_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(archive, "IN_MEMORY", 1000)
    path = pack(tmp_path / "e.tar.gz", EMOJI, mode="w:gz")
    for _ in range(2):
        assert Tar(path=path).row(0)["file"]["bytes"] == b"AAA"
    (kept,) = (tmp_path / "cache" / "polymodal").iterdir()
    assert tarfile.is_tarfile(kept)


def test_what_is_no_tar_or_lacks_what_was_asked_is_refused(tmp_path):
    path = tmp_path / "e.tar"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match="is no tar that can be read"):
        len(Tar(path=str(path)))
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(DataError, match="Zstandard"):
        len(Tar(path=str(path)))
    pack(path, {"a.png": b"1"})
    with pytest.raises(DataError, match=r"has none of metadata\.csv"):
        len(Tar(path=str(path), layout="metadata"))
    pack(path, {"notes.md": b"1"})
    with pytest.raises(DataError, match="no file of image, sound or video"):
        len(Tar(path=str(path)))
    pack(path, {"metadata.csv": b"name,text\na,b\n"})
    with pytest.raises(DataError, match="has no column 'file_name'"):
        len(Tar(path=str(path)))
    with pytest.raises(ValueError, match="at least one"):
        Tar(path=[])


def test_a_folder_without_a_table_has_its_media_by_name(tmp_path):
    for name in ("cat/2.jpg", "cat/1.PNG", "top.wav", "notes.txt", ".git/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    source = Folder(folder=str(tmp_path))
    assert source.column("name") == ["cat/1.PNG", "cat/2.jpg", "top.wav"]
    assert source.row(2) == {"file": str(tmp_path / "top.wav"), "name": "top.wav", "label": None}
    assert source.column("label") == ["cat", "cat", None]
    assert Folder(folder=str(tmp_path), extensions=["txt"]).column("name") == ["notes.txt"]
    with pytest.raises(DataError, match=r"no file ending in .xyz. It has .jpg, .png, .txt, .wav"):
        len(Folder(folder=str(tmp_path), extensions=["xyz"]))
    with pytest.raises(DataError, match="no such folder. Did you mean 'cat'"):
        len(Folder(folder=str(tmp_path / "cats")))


def test_a_folder_joins_its_metadata_table(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    rows = [{"file_name": "a.png", "text": "one"}, {"file_name": "b.png", "text": "two"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = Folder(folder=str(tmp_path)).rows([0, 1])
    assert first == {"file": str(tmp_path / "a.png"), "file_name": "a.png", "text": "one"}
    assert str(second) == "b.png: no such file"


def test_two_spellings_of_an_extension_are_one_field(tmp_path):
    mixed = {
        "a.jpg": b"1", "a.txt": b"one", "b.JPEG": b"2", "b.txt": b"two",
        "c.seg.tiff": b"3", "d.seg.tif": b"4",
    }  # fmt: skip
    source = Tar(path=pack(tmp_path / "mixed.tar", mixed))
    held = [value and value["bytes"] for value in source.column("jpg")]
    assert held == [b"1", b"2", None, None]
    held = [value and value["bytes"] for value in source.column("seg.tif")]
    assert held == [None, None, b"3", b"4"]
    assert set(source.columns()) == {"key", "jpg", "txt", "seg.tif"}
    pack(tmp_path / "1.tar", {"a.jpeg": b"1", "a.txt": b"one"})
    assert set(Tar(path=str(tmp_path / "1.tar")).columns()) == {"key", "jpeg", "txt"}  # as ever
    pack(tmp_path / "2.tar", {"b.jpg": b"2", "b.txt": b"two"})
    both = Tar(path=[str(tmp_path / "1.tar"), str(tmp_path / "2.tar")])
    assert [value["bytes"] for value in both.column("jpg")] == [b"1", b"2"]
    twice = Tar(path=pack(tmp_path / "3.tar", {"a.jpg": b"1", "a.jpeg": b"2"}))
    assert "a has the field 'jpg' twice" in str(twice.rows([0])[0])
    for name in ("x.jpg", "y.jpeg", "z.JPG"):
        (tmp_path / name).write_bytes(b"x")
    assert Folder(folder=str(tmp_path), extensions=["jpg"]).column("name") == [
        "x.jpg", "y.jpeg", "z.JPG"
    ]  # fmt: skip


def test_links_out_of_a_listed_folder_are_refused_unless_allowed(tmp_path):
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    (elsewhere / "cats").mkdir(parents=True)
    top.mkdir()
    (elsewhere / "cats" / "a.png").write_bytes(b"x")
    (top / "b.png").write_bytes(b"x")
    (top / "c.png").symlink_to(elsewhere / "cats" / "a.png")
    first, second = Folder(folder=str(top)).rows([0, 1])
    assert first["name"] == "b.png"
    assert f"allow: [{elsewhere / 'cats'}]" in str(second)
    (top / "cats").symlink_to(elsewhere / "cats")
    with pytest.raises(DataError, match="cats' leads to .* outside of"):
        len(Folder(folder=str(top)))
    (elsewhere / "cats" / "again").symlink_to(elsewhere / "cats")  # without end
    allowed = Folder(folder=str(top), allow=[str(elsewhere)])
    assert allowed.column("name") == ["b.png", "c.png", "cats/a.png"]
    assert allowed.column("label") == [None, None, "cats"]


def test_names_that_are_no_paths_make_unreadable_rows(tmp_path):
    lines = [json.dumps({"file_name": name}) for name in ("a\0b.png", 999 * "x", "none.png")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    rows = Folder(folder=str(tmp_path)).rows(range(3))
    assert all(isinstance(row, UnreadableError) for row in rows)


def test_fingerprints_notice_a_file_that_is_gone_or_changed(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"123")
    found = {Folder(folder=str(tmp_path)).fingerprint()}
    (tmp_path / "b.png").write_bytes(b"456")
    found.add(Folder(folder=str(tmp_path)).fingerprint())
    os.remove(tmp_path / "a.png")
    found.add(Folder(folder=str(tmp_path)).fingerprint())
    path = pack(tmp_path / "a.tar", {"a.png": b"1" * 3000, "b.png": b"2"})
    found.add(Tar(path=path).fingerprint())
    pack(tmp_path / "a.tar", {"a.png": b"1" * 2999 + b"0", "b.png": b"2"})
    found.add(Tar(path=path).fingerprint())
    assert len(found) == 5


def test_a_hard_link_is_the_file_it_names_and_texts_lose_their_byte_order_mark(tmp_path):
    link = tarfile.TarInfo("./b.png")
    link.type, link.linkname = tarfile.LNKTYPE, "./a.png"
    astray = tarfile.TarInfo("c.png")
    astray.type, astray.linkname = tarfile.LNKTYPE, "/etc/hostname"
    path = pack(tmp_path / "a.tar", {"./a.png": b"1"}, extra=[link, astray])
    held = Tar(path=path, layout="files").column("file")
    assert held == [{"path": "a.png", "bytes": b"1"}, {"path": "b.png", "bytes": b"1"}]
    marked = {"a.txt": b"\xef\xbb\xbfcat", "a.json": b'\xef\xbb\xbf{"x": 1}'}
    assert Tar(path=pack(tmp_path / "b.tar", marked)).row(0) == {"key": "a", "txt": "cat", "x": 1}
