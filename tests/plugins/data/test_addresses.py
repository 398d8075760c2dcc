"""Web addresses in text: where they end, and what they are cut into."""

import gzip
import json

from polymodal_data.addresses import Addresses


def rows(tmp_path, text, **options):
    file = tmp_path / "page.txt"
    file.write_text(text)
    source = Addresses(path=str(file), **options)
    return [source.row(number) for number in range(len(source))]


def test_marks_of_the_sentence_are_no_part_of_an_address(tmp_path):
    text = (
        "See https://a.org/x.html, (http://b.org/y) and `z <https://c.org/z?q=1#top>`_.\n"
        "Is it http://d.org/Foo_(bar)? Or **https://e.org/**! https://f.org."
    )
    assert [row["url"] for row in rows(tmp_path, text)] == [
        "https://a.org/x.html", "http://b.org/y", "https://c.org/z?q=1#top",
        "http://d.org/Foo_(bar)", "https://e.org/", "https://f.org",
    ]  # fmt: skip


def test_an_address_is_cut_into_site_path_and_page(tmp_path):
    first, second = rows(tmp_path, "http://WWW.A.org:80/b/c?d=1#e https://f.net")
    assert first == {
        "url": "http://WWW.A.org:80/b/c?d=1#e", "site": "a.org", "path": "b/c?d=1#e",
        "page": "a.org/b/c",
    }  # fmt: skip
    assert second == {"url": "https://f.net", "site": "f.net", "path": None, "page": "f.net"}


def test_each_address_comes_once_and_a_rare_site_has_no_name(tmp_path):
    text = "http://a.org/1 http://a.org/1\nhttp://a.org/2 http://b.org/1"
    found = rows(tmp_path, text, least=2)
    assert [(row["path"], row["site"]) for row in found] == [
        ("1", "a.org"), ("2", "a.org"), ("1", None)
    ]  # fmt: skip


def test_json_lines_are_read_as_they_stand(tmp_path):
    file = tmp_path / "pages.jsonl.gz"
    text = 'a "quoted" https://a.org/b\nnext <http://c.org/d>'
    file.write_bytes(gzip.compress(json.dumps({"text": text}).encode() + b"\n"))
    source = Addresses(path=str(file))
    assert source.column("url") == ["https://a.org/b", "http://c.org/d"]
