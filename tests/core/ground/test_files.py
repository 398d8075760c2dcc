import os
from pathlib import Path

import pytest

from polymodal.data.reading import StreamReading
from polymodal.ground.errors import UnreadableError
from polymodal.ground.files import bytes_or_path, confine, fingerprint_files
from polymodal.interfaces.tokenizer import Reader, Tokenizer


class Contents(Reader):
    strings_are_paths = True

    def __call__(self, value):
        path = value["path"] if isinstance(value, dict) else value
        with open(path, "rb") as file:
            return file.read()


class Words(Reader):
    def __call__(self, value):
        return value


class Anything(Tokenizer):
    spec = None

    def encode(self, raws, *, generators=None):
        raise NotImplementedError


def reading(reader, *, many=False):
    return StreamReading("f", Anything(), reader, many)


def test_a_path_of_a_record_is_opened_below_its_sources_folders_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "database").mkdir()
    inside, outside = tmp_path / "data" / "a", tmp_path / "database" / "a"
    inside.write_bytes(b"in")
    outside.write_bytes(b"out")
    folders = [tmp_path / "data"]
    for value in (str(inside), {"path": str(inside)}):
        assert reading(Contents()).raws({"f": value}, folders=folders) == [b"in"]
    os.symlink(outside, tmp_path / "data" / "link")
    for path in (outside, tmp_path / "data" / ".." / "database" / "a", tmp_path / "data" / "link"):
        for value in (str(path), {"path": str(path)}, {"path": str(path), "bytes": None}):
            with pytest.raises(UnreadableError, match="outside of .*allow: "):
                reading(Contents()).raws({"f": value}, folders=folders)
            with pytest.raises(UnreadableError, match="outside of"):
                reading(Contents(), many=True).raws({"f": [value]}, folders=folders)
            assert reading(Contents()).raws({"f": value}, folders=None) == [b"out"]
    with pytest.raises(UnreadableError, match="any folder its source answers for"):
        reading(Contents()).raws({"f": str(inside)}, folders=())
    assert reading(Contents()).raws({"f": outside}, folders=()) == [b"out"]  # a Path: by code


def test_text_that_looks_like_a_path_is_text_to_a_reader_of_text():
    assert reading(Words()).raws({"f": "/etc/hostname"}, folders=()) == ["/etc/hostname"]


def test_a_relative_path_is_taken_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"in")
    monkeypatch.chdir(tmp_path)
    confine("data/a", ["data"])
    with pytest.raises(UnreadableError, match="outside of data"):
        confine("a", ["data"])


@pytest.mark.parametrize("path", ["a\0b", 5000 * "a", "https://a.org/b.png"])
def test_what_is_no_path_is_refused_in_one_short_line(path):
    with pytest.raises(UnreadableError, match="is no path|is an address") as error:
        confine(path, ["data"])
    assert len(str(error.value)) < 300


def test_bytes_go_before_the_path_and_must_be_bytes():
    assert bytes_or_path({"bytes": bytearray(b"a"), "path": "x"}) == b"a"
    assert bytes_or_path({"path": "x"}) == bytes_or_path("x") == Path("x")
    assert bytes_or_path(3.5) == 3.5
    for record, message in [
        ({"a": 1}, "the film needs 'bytes', 'path' or 'frames', got the keys a"),
        ({"bytes": "abc"}, "the film's 'bytes' must be bytes, got str: 'abc'"),
        ({"bytes": 10, "path": "x"}, "must be bytes, got int"),
        ({"path": 5}, "the film's 'path' must be a path, got int"),
        ({"path": "a\0b"}, "is no path: it has a null character"),
    ]:
        with pytest.raises(UnreadableError, match=message):
            bytes_or_path(record, "film", others=("frames",))


def test_a_large_file_is_looked_into_from_its_first_byte_to_its_last(tmp_path):
    size = 3 * 2**20
    path = tmp_path / "a"
    path.write_bytes(bytes(size))
    found = {fingerprint_files([("a", path)])}
    for place in (0, size // 5 * 2, size - 1):  # the middle one lies at the seventh piece
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(b"1")
        found.add(fingerprint_files([("a", path)]))
    found.add(fingerprint_files([("b", path)]))
    found.add(fingerprint_files([("a", path), ("gone", tmp_path / "gone")]))
    assert len(found) == 6
