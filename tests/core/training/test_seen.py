import math

import numpy as np
import pytest

from polymodal import DataError
from polymodal.data.sampling import Refs
from polymodal.packed.batch import Skipped
from polymodal.training.seen import Seen


def drawn(*sources):
    source = np.array(sources)
    return Refs(0, len(source), source, np.zeros_like(source), np.zeros_like(source))


def seen_of(*, skipped, limit=0.05):
    seen = Seen(["many", "few"], ["words", "pixels"], limit=limit)
    seen.add(drawn(*[0] * 994, *[1] * 6), [Skipped("few", n, "torn") for n in range(skipped)])
    return seen


def test_a_source_of_which_nothing_could_be_used_fails_a_run_at_its_end():
    seen = seen_of(skipped=6)  # 0.6 % of all samples
    assert seen.judge("skipped.jsonl") == []
    with pytest.raises(DataError, match=r"6 of 6 samples of 'few'.*row 5: torn.*skipped.jsonl"):
        seen.judge("skipped.jsonl", ended=True)


def test_a_handful_of_bad_records_is_told_and_fails_nothing():
    (told,) = seen_of(skipped=5).judge("skipped.jsonl", ended=True)
    assert told.startswith("5 of 6 samples of 'few' could not be used (83%")


def test_a_source_within_its_limit_is_not_spoken_of():
    assert seen_of(skipped=3, limit=0.5).judge("skipped.jsonl", ended=True) == []


def test_ten_bad_records_stop_a_run_by_the_share_of_their_own_source():
    seen = seen_of(skipped=0)
    seen.add(drawn(*[1] * 12), [Skipped("few", n, "torn") for n in range(10)])
    with pytest.raises(DataError, match="10 of 18 samples of 'few'"):
        seen.judge("skipped.jsonl")


def test_objectives_without_a_target_are_named_and_none_with_one_is_refused():
    seen = seen_of(skipped=0)
    seen.score({"words": (2.0, 0.0), "pixels/accuracy": (1.0, 1.0)})
    with pytest.raises(DataError, match="nothing was trained: .*words, pixels"):
        seen.without_targets()
    seen.score({"words": (2.0, 3.0)})
    assert seen.without_targets() == ["pixels"]


def test_counts_go_on_from_a_checkpoint():
    before = seen_of(skipped=2)
    before.score({"words": (1.0, 4.0)})
    after = Seen(["few", "many"], ["words", "pixels"], limit=0.05)  # in another order
    after.load(before.state())
    assert after.state()["sources"] == {"few": [6, 2], "many": [994, 0]}
    assert after.scored == {"words": 4.0, "pixels": 0.0}
    after.load(None)  # of a run that did not count: nothing is known, and nothing said
    assert math.isnan(after.scored["words"]) and after.without_targets() == []
