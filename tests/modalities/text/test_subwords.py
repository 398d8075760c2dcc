import json
import pickle
import random

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from polymodal import DataError, UnreadableError
from polymodal_text.byte_pairs import BytePairs
from polymodal_text.wordpiece import WordPiece

TEXTS = ["The café is open, isn't it?", "a photo of a cat", "hello hello world", "数学 and 数"] * 3


@pytest.fixture
def wordpiece():
    tokenizer = WordPiece(vocabulary_size=120)
    tokenizer.fit(TEXTS)
    return tokenizer


@pytest.fixture
def byte_pairs():
    tokenizer = BytePairs(vocabulary_size=300)
    tokenizer.fit(TEXTS)
    return tokenizer


@pytest.mark.parametrize("make", [WordPiece, BytePairs])
def test_the_same_texts_in_any_order_give_the_same_vocabulary(make):
    one, other = make(vocabulary_size=290), make(vocabulary_size=290)
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    one.fit(TEXTS)
    other.fit(iter(shuffled))
    assert json.dumps(one.state()) == json.dumps(other.state())


def test_wordpiece_keeps_the_commonest_characters_when_the_alphabet_must_be_cut():
    tokenizer = WordPiece(vocabulary_size=13)  # room for two characters
    tokenizer.fit(["aaa bb aab", "c d e f g h i"])
    vocabulary = tokenizer.state()["tokenizer"]["model"]["vocab"]
    assert {"a", "b", "##a", "##b"} < vocabulary.keys()
    assert "c" not in vocabulary
    assert len(vocabulary) <= 13


def test_a_tokenizer_says_its_spec_before_it_has_learned():
    tokenizer = WordPiece(vocabulary_size=500)
    assert not tokenizer.fitted
    before = tokenizer.spec
    assert before.vocabulary == 500
    assert before.special == {"pad": 0, "unknown": 1, "mask": 2, "begin": 3, "end": 4}
    tokenizer.fit(TEXTS)
    assert tokenizer.fitted
    assert tokenizer.spec == before
    with pytest.raises(ValueError, match="call fit, or give file"):
        WordPiece().encode(["a"])


def test_begin_and_end_are_special_and_words_share_a_number(wordpiece):
    tokens = wordpiece.encode(["hello hot"])  # hot is h ##o ##t
    assert tokens.ids[0] == 3
    assert tokens.ids[-1] == 4
    assert tokens.layout.kinds.tolist() == [1, *[0] * (len(tokens.ids) - 2), 1]
    word = tokens.layout.channels["word"]
    assert word.tolist() == [0, 1, *[2] * (len(word) - 3), 3]
    assert "word" not in wordpiece.spec.channels


def test_absent_empty_and_blank_text_have_no_tokens(wordpiece, byte_pairs):
    for tokenizer in (wordpiece, byte_pairs):
        tokens = tokenizer.encode([None, "", " \n\t", "a cat"])
        assert tokens.layout.lengths[:3] == (0, 0, 0)
        assert tokens.layout.present == (False, False, False, True)
        assert tokenizer.encode([]).layout.samples == 0
        assert tokenizer.encode([None]).ids.dtype == torch.int64


def test_what_looks_like_a_special_token_is_text(byte_pairs, wordpiece):
    for tokenizer in (byte_pairs, wordpiece):
        assert 2 not in tokenizer.encode(["a [MASK] cat [PAD]"]).ids.tolist()
    assert byte_pairs.decode(byte_pairs.encode(["a [MASK] cat"])) == ["a [MASK] cat"]


def test_long_text_is_cut_and_keeps_its_end():
    tokenizer = BytePairs(vocabulary_size=261, max_tokens=5)
    tokenizer.fit(TEXTS)
    tokens = tokenizer.encode(["abcdefgh", "ab"])
    assert tokens.layout.lengths == (5, 4)
    assert tokens.ids[4] == tokens.ids[8] == 4
    assert tokenizer.spec.extent == (5,)
    assert tokenizer.decode(tokens) == ["abc", "ab"]


def test_byte_pairs_decode_to_the_very_text(byte_pairs):
    texts = ["def f():\n\treturn  'é'\n\n", " 😀 ", "", "The café"]
    assert byte_pairs.decode(byte_pairs.encode(texts)) == [texts[0], texts[1], "", texts[3]]


def test_wordpiece_decodes_to_lower_case_and_keeps_accents_unless_asked(wordpiece):
    assert wordpiece.decode(wordpiece.encode(["A Café"])) == ["a café"]
    assert wordpiece.decode(wordpiece.encode(["A Cafe\u0301"])) == ["a café"]
    stripping = WordPiece(vocabulary_size=60, strip_accents=True)
    stripping.fit(["A Café"] * 3)
    assert stripping.decode(stripping.encode(["A Café"])) == ["a cafe"]


def test_decoding_survives_ids_nothing_was_learned_for(byte_pairs):
    tokens = byte_pairs.encode(["hello"])
    bold = tokens.with_rows(torch.full_like(tokens.ids, 299))
    unlearned = tokens.with_rows(torch.full_like(tokens.ids, 10_000))
    assert byte_pairs.decode(bold)[0]
    assert byte_pairs.decode(unlearned) == [""]


@pytest.mark.parametrize("make", [WordPiece, BytePairs])
def test_state_and_pickle_bring_back_the_same_tokens(make):
    tokenizer = make(vocabulary_size=300)
    tokenizer.fit(TEXTS)
    wanted = tokenizer.encode(TEXTS).ids
    fresh = make(vocabulary_size=300)
    fresh.load_state(json.loads(json.dumps(tokenizer.state())))
    assert torch.equal(fresh.encode(TEXTS).ids, wanted)
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS).ids, wanted)


def test_a_state_that_does_not_fit_is_refused(byte_pairs):
    with pytest.raises(ValueError, match="room for 280"):
        BytePairs(vocabulary_size=280).load_state(byte_pairs.state())
    with pytest.raises(ValueError, match="the key 'tokenizer'"):
        byte_pairs.load_state({"merges": []})
    with pytest.raises(ValueError, match="can't be read"):
        byte_pairs.load_state({"tokenizer": {"model": 1}})


@pytest.fixture
def bert_file(tmp_path):
    names = ["<unused>", "[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s"]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 4), ("[CLS]", 3))
    tokenizer.enable_padding(length=10)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "vocab.txt").write_text("\n".join(names))
    return tmp_path / "tokenizer.json"


def test_a_loaded_file_brings_size_roles_and_ids_but_not_its_padding(bert_file):
    for file in (bert_file, bert_file.with_name("vocab.txt")):
        tokenizer = WordPiece(file=str(file))
        assert tokenizer.fitted
        assert tokenizer.spec.vocabulary == 9
        assert tokenizer.spec.special == {"pad": 2, "unknown": 1, "mask": 5, "begin": 3, "end": 4}
        tokens = tokenizer.encode(["a cats cat dog a a", "[MASK]"])
        assert tokens.ids.tolist()[:9] == [3, 6, 7, 8, 7, 1, 6, 6, 4]
        assert 5 not in tokens.ids.tolist()  # the words of a text can't hide tokens


def test_a_saved_vocabulary_no_longer_needs_its_file(bert_file):
    tokenizer = WordPiece(file=str(bert_file), vocabulary_size=20)
    state, spec = tokenizer.state(), tokenizer.spec
    bert_file.unlink()
    moved = WordPiece(file=str(bert_file), vocabulary_size=20)
    moved.load_state(state)
    assert moved.spec == spec
    assert torch.equal(moved.encode(["a cat"]).ids, tokenizer.encode(["a cat"]).ids)


def test_files_that_will_not_do_are_refused(bert_file, tmp_path):
    with pytest.raises(DataError, match="no vocabulary file"):
        _ = WordPiece(file=str(tmp_path / "gone.json")).spec
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="is no vocabulary"):
        _ = WordPiece(file=str(tmp_path / "broken.json")).spec
    with pytest.raises(ValueError, match="holds WordPiece, not BPE"):
        _ = BytePairs(file=str(bert_file)).spec
    names = ["[UNK]", *(f"word{number}" for number in range(18))]
    (tmp_path / "vocab.txt").write_text("\n".join(names))
    with pytest.raises(ValueError, match="at least the 19 ids"):
        _ = WordPiece(file=str(tmp_path / "vocab.txt"), vocabulary_size=13).spec


def test_byte_pairs_load_a_vocabulary_with_its_merges(byte_pairs, tmp_path):
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(byte_pairs.state()["tokenizer"]))
    tokenizer.model.save(str(tmp_path))
    loaded = BytePairs(file=str(tmp_path / "vocab.json"))
    assert torch.equal(loaded.encode(TEXTS).ids, byte_pairs.encode(TEXTS).ids)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"merges\.txt beside it"):
        _ = BytePairs(file=str(tmp_path / "vocab.json")).spec


def test_options_without_room_are_refused():
    with pytest.raises(ValueError, match="max_tokens must be at least 3, got 2"):
        WordPiece(max_tokens=2)
    with pytest.raises(ValueError, match="at least 261"):
        BytePairs(vocabulary_size=100)


def test_a_split_without_text_can_teach_nothing():
    with pytest.raises(DataError, match="no text"):
        WordPiece().fit([None, "", "  "])


def test_check_refuses_what_is_no_string(wordpiece):
    wordpiece.check("a")
    wordpiece.check(None)
    with pytest.raises(UnreadableError, match="int"):
        wordpiece.check(3)


def test_sentinels_are_the_last_ids_and_no_text_has_them():
    texts = ["one two three", "[MASK] sentinel_0"]
    tokenizer = BytePairs(vocabulary_size=300, sentinels=4)
    tokenizer.fit(texts)
    ids = [tokenizer.special[f"sentinel_{k}"] for k in range(4)]
    assert ids == [296, 297, 298, 299] and tokenizer.spec.vocabulary == 300
    tokens = tokenizer.encode(texts)
    assert tokens.ids.max() < 296 and tokenizer.decode(tokens) == texts
    with pytest.raises(ValueError, match="sentinels must be 0 or more"):
        BytePairs(sentinels=-1)
    with pytest.raises(ValueError, match="at least 265"):
        BytePairs(vocabulary_size=264, sentinels=4)


def test_sentinels_of_a_loaded_vocabulary_follow_its_ids(tmp_path):
    learned = BytePairs(vocabulary_size=280)
    learned.fit(["some words to learn from"])
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(learned.state()["tokenizer"]))
    loaded = BytePairs(file=str(file), sentinels=2)
    held = max(loaded._engine.get_vocab().values()) + 1
    assert loaded.spec.vocabulary == held + 2 and loaded.special["sentinel_1"] == held + 1
    again = BytePairs(file="gone.json", sentinels=2)
    again.load_state(loaded.state())
    assert again.spec == loaded.spec


MARKED = [
    ("\u092e\u0947\u0902", "\u092e\u0947"),  # Hindi "in" and "I"
    ("\u0e01\u0e34", "\u0e01\u0e38"),  # Thai ki and ku
    ("\u010b", "c"), ("\u017c", "z"),  # Maltese letters with dots
    ("\u05e9\u05c1", "\u05e9\u05c2"),  # Hebrew shin and sin
    ("\u0439", "\u0438"),  # Cyrillic short i
]  # fmt: skip


@pytest.mark.parametrize("pair", MARKED)
def test_words_that_differ_in_a_mark_differ(pair):
    for kind, size in ((WordPiece, 100), (BytePairs, 400)):
        tokenizer = kind(vocabulary_size=size, mark_ends=False)
        tokenizer.fit(list(pair) * 3)
        one, other = (tokenizer.encode([word]).ids.tolist() for word in pair)
        assert one != other
        assert 1 not in one + other  # nor is either unknown


@pytest.mark.parametrize("lower_case", [True, False])
def test_a_loaded_list_strips_accents_as_bert_does_where_it_lower_cases(tmp_path, lower_case):
    path = tmp_path / "vocab.txt"
    path.write_text("[UNK]\ncafe\ncafé\n", encoding="utf-8")
    tokenizer = WordPiece(file=str(path), mark_ends=False, lower_case=lower_case)
    assert tokenizer.encode(["café"]).ids.tolist() == [1 if lower_case else 2]


def test_marks_do_not_end_a_word_of_byte_pairs():
    tokenizer = BytePairs(vocabulary_size=400, mark_ends=False)
    hindi = "\u092e\u0947\u0902 \u0939\u093f\u0928\u094d\u0926\u0940"
    tokenizer.fit([hindi, "I'm 2 words, no more"] * 3)
    assert max(tokenizer.encode([hindi]).layout.channels["word"].tolist()) == 1
    assert tokenizer.decode(tokenizer.encode([hindi])) == [hindi]
    # Without marks words are GPT-2's: I 'm _2 _words , _no _more
    assert max(tokenizer.encode(["I'm 2 words, no more"]).layout.channels["word"].tolist()) == 6


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_has_one_piece_a_line_feed(tmp_path, end, mark):
    path = tmp_path / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "a", "\u2028", "\x85", "", "\x0c", "b"]
    for trailing in (end, "", end * 3):
        path.write_bytes((mark + end.join(pieces) + trailing).encode())
        tokenizer = WordPiece(file=str(path), mark_ends=False)
        assert tokenizer.encode(["a b"]).ids.tolist() == [2, 7]
        assert tokenizer.spec.vocabulary == 8
        assert tokenizer.special["pad"] == 0


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_a_vocabulary_that_is_not_utf_8_names_the_byte(tmp_path, name):
    path = tmp_path / name
    path.write_bytes("[UNK]\né\n".encode("latin-1"))
    with pytest.raises(DataError, match=rf"{name} is not UTF-8: byte 0xe9 at position 6"):
        WordPiece(file=str(path)).spec  # noqa: B018


@pytest.mark.parametrize("first", ["#version: 0.2\n", "", "\ufeff#version: 0.2\r\n"])
def test_merges_with_and_without_a_version_give_the_same_pieces(tmp_path, first):
    pieces = {"a": 0, "b": 1, "ab": 2, "#": 3, "##": 4}
    (tmp_path / "vocab.json").write_text(json.dumps(pieces), encoding="utf-8-sig")
    (tmp_path / "merges.txt").write_bytes((first + "a b\r\n# #\n").encode())
    tokenizer = BytePairs(file=str(tmp_path / "vocab.json"), mark_ends=False)
    assert tokenizer.encode(["ab##"]).ids.tolist() == [2, 4]
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(ValueError, match="line 1 is no pair"):
        BytePairs(file=str(tmp_path / "vocab.json")).spec  # noqa: B018
