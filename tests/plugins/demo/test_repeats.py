import numpy as np
import pytest

from polymodal_demo.repeats import Repeats


def test_the_motifs_stand_where_it_says_and_the_label_is_their_order():
    source = Repeats(samples=30, bases=128, motifs=20, pairs=2)
    for row in source.rows(range(30)):
        assert len(row["genome"]) == len(row["motif"]) == 128
        first, second = map(int, row["label"].split("-"))
        assert {first, second} in ({0, 1}, {2, 3})
        places = []
        for number in (first, second):
            word = source.words[number]
            found = [i for i in range(128) if row["genome"].startswith(word, i)
                     and row["motif"][i : i + len(word)].all()]  # fmt: skip
            assert found
            places.append(found[0])
        assert places[0] < places[1]


def test_most_bases_are_repeats():
    rows = Repeats(samples=50).rows(range(50))
    assert np.mean([row["motif"].mean() for row in rows]) == pytest.approx(0.3, abs=0.05)
    for row in rows:  # outside of motifs, a base is that of one of the four before it
        outside = np.flatnonzero(row["motif"] == 0)
        inner = [i for i in outside if i >= 4 and not row["motif"][i - 4 : i].any()]
        letters = np.array(list(row["genome"]))
        assert all(letters[i] in letters[i - 4 : i] for i in inner)


def test_every_third_row_is_for_validation():
    source = Repeats(samples=7)
    assert source.column("split") == [row["split"] for row in source.rows(range(7))]
    assert source.column("split").count("validation") == 2
    assert source.column("label") == [row["label"] for row in source.rows(range(7))]


@pytest.mark.parametrize(
    "options", [{"repeats": 1.0}, {"pairs": 11, "motifs": 20}, {"motifs": 500}, {"bases": 8}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        Repeats(**options)
