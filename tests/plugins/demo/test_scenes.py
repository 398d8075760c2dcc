import numpy as np
import pytest

from polymodal_demo.drawings import NUMBERS, drawings
from polymodal_demo.scenes import HELD_OUT, Scenes
from polymodal_vision.regions import RegionReader, Regions


def test_partners_are_the_regions_with_the_words_digit():
    images, targets = drawings()
    lookup = {image.tobytes(): number for number, image in enumerate(images)}
    for row in Scenes(samples=20, validation=0.5).rows(range(20)):
        drawn = [lookup[each.reshape(8, 8).tobytes()] for each in row["regions"]["features"]]
        digits = [targets[number] for number in drawn]
        assert all((number >= HELD_OUT) == (row["split"] == "validation") for number in drawn)
        for word, partners in zip(row["text"].split(), row["partners"], strict=True):
            assert [NUMBERS[digit] == word for digit in digits] == [
                region in partners for region in range(5)
            ]
        assert row["regions"]["classes"].argmax(axis=1).tolist() == [1 + d for d in digits]


def test_the_order_of_words_tells_nothing_of_the_order_of_regions():
    rows = Scenes(samples=300).rows(range(300))
    same = np.mean([[place in p for place, p in enumerate(row["partners"])] for row in rows])
    assert same == pytest.approx(0.28, abs=0.04)  # itself one time in five, or a repeat


def test_the_share_of_validation_rows_is_spread_evenly():
    source = Scenes(samples=100, validation=0.1)
    assert source.column("split").count("validation") == 10
    assert source.column("split")[:50].count("validation") == 5
    assert source.column("split") == [row["split"] for row in source.rows(range(100))]
    assert Scenes(samples=20, validation=0.0).column("split") == ["train"] * 20


def test_blank_scenes_are_the_same_without_features():
    seen, blank = (Scenes(samples=3, blank=blank).row(1) for blank in (False, True))
    assert blank["text"] == seen["text"]
    np.testing.assert_array_equal(blank["regions"]["boxes"], seen["regions"]["boxes"])
    assert seen["regions"]["features"].any()
    assert not blank["regions"]["features"].any()


def test_the_tokenizer_of_regions_takes_them():
    tokenizer = Regions(features=64, classes=11)
    raws = [RegionReader()(row["regions"]) for row in Scenes(samples=4, regions=3).rows(range(4))]
    for raw in raws:
        tokenizer.check(raw)
    tokens = tokenizer.encode(raws)
    assert tokens.layout.lengths == (3,) * 4
    assert tokens.layout.positions.max() <= 1


@pytest.mark.parametrize("options", [{"regions": 0}, {"validation": 1.5}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        Scenes(samples=2, **options)
