import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from polymodal import UnreadableError
from polymodal_code.diff import DiffReader
from polymodal_code.diff_tokens import KINDS, DiffTokenizer
from polymodal_code.hunks import Hunk, parse_patch, within
from polymodal_text import SPECIAL

OLD_FILE = "import os\na = 1\nb = 2\n\nd = 5\nprint(a)"
PATCH = "@@ -2,4 +2,5 @@\n a = 1\n-b = 2\n+b = 3\n+c = 4\n \n d = 5"
LINES = ("import os", "a = 1", "b = 2", "b = 3", "c = 4", "d = 5", "print(a)")
CHANGES = (None, "keep", "delete", "add", "add", "keep", None)


class Words(DiffTokenizer):
    """Words between blanks as tokens, to read results by eye."""

    smallest_vocabulary = 5

    def learn(self, texts, size):
        words = sorted({word for text in texts for word in text.split()})
        names = [*SPECIAL, *words]
        vocabulary = {name: number for number, name in enumerate(names)}
        found = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
        found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return found


def fitted(*raws, **options):
    tokenizer = Words(**{"vocabulary_size": 200, "sentinels": 4, **options})
    tokenizer.fit(raws)
    return tokenizer


def shown(tokenizer, tokens):
    names = {number: name for name, number in tokenizer._engine.get_vocab().items()}
    names |= {number: f"<{role}>" for role, number in tokenizer.special.items()}
    return [names[number] for number in tokens.ids.tolist()]


def test_a_hunk_has_the_lines_and_changes_of_the_papers_code():
    hunk = parse_patch(PATCH, OLD_FILE)
    assert hunk.lines == LINES and hunk.changes == CHANGES
    assert DiffReader()({"patch": PATCH, "old_file": OLD_FILE}) == hunk
    assert DiffReader()(PATCH.encode()).lines == LINES[1:-1]


def test_a_missing_count_is_one_and_the_rest_of_a_patch_is_passed_over():
    patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@ def f():\n-a\n+b\n+c\n" + (
        "\\ No newline at end of file\n@@ -9 +10 @@\n-d\n+e\n-not of the hunk"
    )
    hunk = parse_patch(patch, "\n".join(f"line{n}" for n in range(1, 11)))
    assert hunk.lines == ("a", "b", "c", "d", "e", "line10")
    assert hunk.changes == ("delete", "add", "add", "delete", "add", None)


def test_what_is_only_added_stands_between_the_lines_it_comes_between():
    hunk = parse_patch("@@ -2,0 +3,1 @@\n+new", "one\ntwo\nthree\nfour")
    assert hunk.lines == ("one", "two", "new", "three", "four")


def test_lines_around_come_nearest_first_and_in_turn_until_there_are_enough_words():
    old = "\n".join(["far before", "near before", "", "x", "near after", "far after"])
    patch = "@@ -4 +4 @@\n-x\n+y"
    near = ("near before", "x", "y")
    assert parse_patch(patch, old, words=2).lines == ("x", "y")
    assert parse_patch(patch, old, words=3).lines == near
    assert parse_patch(patch, old, words=5).lines == (*near, "near after")
    assert parse_patch(patch, old, words=7).lines == ("far before", *near, "near after")


def test_a_long_hunk_is_cut_at_both_ends_in_turn():
    assert within([1, 1, 1, 1, 1], 3) == slice(1, 4)
    assert within([1, 1, 1, 1], 3) == slice(1, 4)
    assert within([5], 3) == slice(0, 1)  # one line stays
    assert within([], 3) == slice(0, 0)
    lines = "\n".join(f"+word{n} more" for n in range(9))
    kept = parse_patch(f"@@ -0,0 +1,9 @@\n{lines}", words=6).lines
    assert kept == ("word3 more", "word4 more", "word5 more")


@pytest.mark.parametrize("patch", ["", "no header", "@@ -1 +1 @@\n \n", "@@ -1 +1 @@"])
def test_a_patch_without_header_or_lines_is_refused(patch):
    with pytest.raises(UnreadableError):
        DiffReader()(patch)


def test_a_patch_that_has_lost_headers_and_line_ends_is_all_hunk():
    reader = DiffReader(headers=False, line_break=" <nl> ")
    hunk = reader({"patch": "ppp b / x <nl> - a b <nl> + c <nl> d", "old_file": "unplaced"})
    assert hunk.lines == ("ppp b / x", "a b", "c", "d")
    assert hunk.changes == ("keep", "delete", "add", "keep")


def test_each_changed_line_has_its_tag_and_the_hunk_its_marks():
    hunk = parse_patch(PATCH, OLD_FILE)
    tokenizer = fitted(hunk)
    tokens = tokenizer.encode([hunk])
    expected = (
        "<begin> import os <hunk_begin> <keep> a = 1 <delete> b = 2 <add> b = 3 <add> c = 4 "
        "<keep> d = 5 <hunk_end> print(a) <end>"
    )
    assert shown(tokenizer, tokens) == expected.split()
    kinds = [KINDS[kind] for kind in tokens.layout.kinds.tolist()]
    assert kinds.count("tag") == 5 and kinds.count("special") == 4
    line = tokens.layout.channels["line"].tolist()
    assert line == [-1, 0, 0, -1, *[n for n in range(1, 6) for _ in range(4)], -1, 6, -1]
    assert tokenizer.decode(tokens) == [hunk]


def test_a_hunk_that_has_no_room_loses_lines_at_both_ends():
    hunk = parse_patch(PATCH, OLD_FILE)
    tokenizer = fitted(hunk, max_tokens=16)
    found = shown(tokenizer, tokenizer.encode([hunk]))
    assert " ".join(found) == (
        "<begin> <hunk_begin> <delete> b = 2 <add> b = 3 <add> c = 4 <hunk_end> <end>"
    )
    short = fitted(hunk, max_tokens=6)  # of a single line, the first tokens
    assert shown(short, short.encode([hunk]))[1:-1][:2] == ["<hunk_begin>", "<add>"]
    assert short.encode([hunk]).layout.lengths == (6,)


def test_comments_share_the_vocabulary_and_have_no_marks_of_hunks():
    hunk = Hunk(("a b",), ("add",))
    tokenizer = fitted(hunk, "why a ?")
    tokens = tokenizer.encode(["why a ?", None, hunk, " ", ""])
    assert tokens.layout.lengths == (5, 0, 7, 0, 0)
    assert shown(tokenizer, tokens)[:5] == ["<begin>", "why", "a", "?", "<end>"]
    assert tokenizer.decode(tokens)[2] == hunk


def test_byte_pairs_come_back_as_they_were():
    hunk = parse_patch(PATCH, OLD_FILE)
    texts = [hunk, "né  où", "x\ty"]
    tokenizer = DiffTokenizer(vocabulary_size=400, sentinels=3)
    tokenizer.fit(texts)
    tokens = tokenizer.encode(texts)
    assert tokenizer.decode(tokens) == texts
    ids = [tokenizer.special[f"sentinel_{k}"] for k in range(3)]
    assert ids == [397, 398, 399] and tokens.ids.max() < tokenizer.special["delete"] + 5
    again = DiffTokenizer(vocabulary_size=400, sentinels=3)
    again.load_state(tokenizer.state())
    assert torch.equal(again.encode(texts).ids, tokens.ids)
    word = tokens.layout.channels["word"]
    assert word[0] == 0 and (word.diff()[: tokens.layout.lengths[0] - 1] >= 0).all()


def test_what_is_neither_hunk_nor_text_is_refused():
    with pytest.raises(UnreadableError, match="hunks and strings, got int"):
        fitted("a").check(3)
    with pytest.raises(ValueError, match="max_tokens must be at least 6"):
        Words(max_tokens=5)
    with pytest.raises(ValueError, match="words must be 1 or more"):
        DiffReader(words=0)
    with pytest.raises(ValueError, match="2 lines with 1 changes"):
        Hunk(("a", "b"), ("add",))
