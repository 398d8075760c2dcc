from pathlib import Path

import pytest

from polymodal import UnreadableError
from polymodal_text.plain import PlainReader


def test_strings_bytes_files_and_records_read_alike(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffcafé".encode())
    read = PlainReader()
    assert read("café") == read("café".encode()) == read(path) == "café"
    assert read({"path": str(path), "bytes": None}) == "café"
    assert read({"path": None, "bytes": "café".encode()}) == "café"
    assert PlainReader(from_file=True)(str(path)) == "café"


def test_keywords_are_joined_and_numbers_written_out():
    assert PlainReader()(["sun", None, "sea"]) == "sun, sea"
    assert PlainReader(separator=" ")(("a", "b")) == "a b"
    assert PlainReader()(7) == "7"


def test_the_text_of_a_record_is_the_entry_asked_for():
    sections = [{"heading": "Why", "text": "Because."}, {"heading": "How"}, {"text": "So."}]
    assert PlainReader(key="text", separator="|")(sections) == "Because.||So."
    assert PlainReader(key="text")(sections[0]) == "Because."
    with pytest.raises(UnreadableError, match="dict"):
        PlainReader()(sections)


def test_bytes_that_are_not_utf8_are_refused_with_their_place():
    with pytest.raises(UnreadableError, match="0xe9 at position 3"):
        PlainReader()(b"caf\xe9 noir")
    with pytest.raises(UnreadableError, match="0xe9 at position 6"):
        PlainReader()(b"\xef\xbb\xbfcaf\xe9")


def test_bytes_that_are_not_utf8_can_be_replaced():
    assert PlainReader(encoding_errors="replace")(b"caf\xe9") == "caf\ufffd"


def test_half_a_surrogate_pair_is_refused_before_it_stops_the_tokenizer():
    with pytest.raises(UnreadableError, match="character 2"):
        PlainReader()("ab\udcff")
    assert PlainReader(encoding_errors="replace")("ab\udcff") == "ab?"


def test_a_missing_file_is_named():
    with pytest.raises(UnreadableError, match=r"gone\.txt can't be read: No such file"):
        PlainReader(from_file=True)("gone.txt")


@pytest.mark.parametrize("value", [float("nan"), object(), {"text": "a"}, {"bytes": None}])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(UnreadableError, match="text"):
        PlainReader()(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"bytes": 10}, "must be bytes, got int"),
        ({"bytes": "abc"}, "must be bytes, got str"),
        ({"bytes": [1, 2]}, "must be bytes, got list"),
        ({"path": "a\0b"}, "is no path"),
        (Path("a\0b"), "is no path"),
        (Path("a" * 5000), "File name too long"),
        (Path("a\ud800"), "is no path|No such file"),
    ],
)
def test_what_holds_no_text_is_unreadable_in_one_short_line(value, reason):
    with pytest.raises(UnreadableError, match=reason) as caught:
        PlainReader()(value)
    assert len(str(caught.value)) < 400
