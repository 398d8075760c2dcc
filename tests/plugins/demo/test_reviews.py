from collections import Counter

import numpy as np
import pytest

from polymodal_demo.reviews import NAMES, PRONOUNS, WORDS, Reviews
from polymodal_text.wordpiece import WordPiece


def rows(count=600, **options):
    return list(Reviews(samples=count, **options).rows(range(count)))


def of_gender(gender):
    return {*NAMES[gender], *PRONOUNS[gender].values()}


def test_the_counterfactual_differs_in_names_and_pronouns_alone():
    for row in rows(100):
        other = "male" if row["gender"] == "female" else "female"
        changed = 0
        pairs = zip(row["text"].split(), row["counterfactual"].split(), row["tags"], strict=True)
        for one, two, tag in pairs:
            if one != two:
                assert tag in ("PROPN", "PRON")
                assert one in of_gender(row["gender"]) and two in of_gender(other)
                changed += 1
            else:
                assert one not in of_gender("female") | of_gender("male")
        assert changed


@pytest.mark.parametrize("correlation", [0.5, 0.8])
def test_gender_goes_with_sentiment_as_often_as_asked_and_topic_never(correlation):
    found = rows(1500, correlation=correlation)
    agree = [(r["gender"] == "female") == (r["sentiment"] == "positive") for r in found]
    assert np.mean(agree) == pytest.approx(correlation, abs=0.04)
    by_topic = Counter((r["topic"], r["gender"]) for r in found)
    assert len(by_topic) == 8 and max(by_topic.values()) / min(by_topic.values()) < 1.5
    coins = [r["coin"] == "heads" for r in found if r["gender"] == "female"]
    assert np.mean(coins) == pytest.approx(0.5, abs=0.06)


def test_a_tenth_of_the_texts_say_the_opposite_and_all_words_of_a_text_agree():
    known = {s: {*words["adjective"], *words["liked"]} for s, words in WORDS.items()}
    shown = []
    for row in rows():
        (found,) = {s for s in known for word in row["text"].split() if word in known[s]}
        shown.append(found == row["sentiment"])
    assert np.mean(shown) == pytest.approx(0.9, abs=0.04)


def test_each_word_of_the_tokenizer_has_a_tag():
    texts = rows(200)
    tokenizer = WordPiece(vocabulary_size=400, mark_ends=False)
    tokenizer.fit([row["text"] for row in texts])
    tokens = tokenizer.encode([row["text"] for row in texts])
    last = tokens.layout.channels["word"][tokens.layout.offsets[1:] - 1] + 1
    assert last.tolist() == [len(row["tags"]) for row in texts]


def test_shares_out_of_range_are_refused():
    with pytest.raises(ValueError, match="correlation must lie between 0 and 1"):
        Reviews(correlation=1.2)
