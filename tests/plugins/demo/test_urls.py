"""Generated addresses: what tells their category and phishing, and what is held out."""

import re
from urllib.parse import urlsplit

import pytest

from polymodal_demo.urls import _ALIKE, CATEGORIES, OWN, SHARED, Urls, _vocabulary

MANY = Urls(samples=600, validation=0.5)
ROWS = MANY.rows(range(600))


def names_in(row):
    """The names of sites that its host is made of, look-alikes and numbers undone."""
    found = []
    for part in urlsplit(row["url"]).hostname.split("."):
        bare = re.sub(r"\d+$", "", part)
        spelt = [{c} | {letter for letter, digit in _ALIKE.items() if digit == c} for c in part]
        for split, names in zip(("train", "validation"), _vocabulary()[1], strict=True):
            for name in names:
                alike = len(name) == len(part) and all(n in s for n, s in zip(name, spelt))
                found += [split] * (alike or name == bare)
    return found


def test_every_address_parses_and_names_of_validation_rows_are_not_those_of_training():
    for row in ROWS[::5]:
        assert urlsplit(row["url"]).scheme in ("http", "https")
        assert names_in(row) == [row["split"]], row
    seen, unseen = _vocabulary()[1]
    assert not set(seen) & set(unseen)


def test_a_path_has_two_words_of_its_category_or_more():
    paths = _vocabulary()[0]
    assert all(len(set(words)) == OWN + 2 * SHARED for words in paths)
    for row in ROWS:
        drawn = set(re.split(r"[/_?-]", urlsplit(row["url"]).path))
        own = drawn & set(paths[CATEGORIES.index(row["category"])])
        assert own
        assert len(own) >= max(len(drawn & set(words)) for words in paths)


def test_labels_are_spread_and_independent():
    traps = sum(row["phishing"] == "yes" for row in ROWS)
    assert 240 < traps < 360
    counts = [sum(row["category"] == c for row in ROWS) for c in CATEGORIES]
    assert min(counts) > 10


def test_swaps_touch_validation_rows_alone_by_two_neighbours():
    swapped = Urls(samples=600, validation=0.5, swaps=1).rows(range(600))
    for row, other in zip(ROWS, swapped, strict=True):
        where = [i for i, (a, b) in enumerate(zip(row["url"], other["url"], strict=True)) if a != b]
        if row["split"] == "train":
            assert not where
            continue
        first, second = where
        assert second == first + 1
        assert row["url"][first] == other["url"][second]
        assert row["url"][second] == other["url"][first]
        assert {k: v for k, v in row.items() if k != "url"} == {
            k: v for k, v in other.items() if k != "url"
        }


def test_the_column_of_splits_is_that_of_the_rows():
    assert MANY.column("split") == [row["split"] for row in ROWS]
    assert Urls(samples=5, validation=0.0).column("split") == ["train"] * 5


def test_shares_and_swaps_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="validation must lie between 0 and 1"):
        Urls(validation=1.5)
    with pytest.raises(ValueError, match="swaps not be negative, got 0.1 and -1"):
        Urls(swaps=-1)
