import ast
from collections import Counter

import pytest

from polymodal_code.hunks import parse_patch
from polymodal_demo.edits import PHRASES, Edits, _patch


@pytest.fixture(scope="module")
def rows():
    source = Edits(samples=150, few=40)
    return source.rows(range(150))


def patched(old, patch):
    """What a patch makes of a file, hunk by hunk, from the last."""
    lines = old.split("\n")
    hunks, body = [], []
    for line in patch.split("\n"):
        if line.startswith("@@"):
            body = []
            start, count = (line.split()[1][1:] + ",1").split(",")[:2]
            hunks.append((int(start) - (count != "0"), int(count), body))
        elif line[:1] != "-":
            body.append(line[1:])
    for start, count, body in reversed(hunks):
        lines[start : start + count] = body
    return "\n".join(lines)


def test_the_patch_leads_to_code_that_parses_and_differs(rows):
    for row in rows:
        diff = row["diff"] or row["reviewed"]
        new = patched(diff["old_file"], diff["patch"])
        ast.parse(new)
        assert new != diff["old_file"] and _patch(diff["old_file"], new) == diff["patch"]
        changes = set(parse_patch(**diff).changes)
        assert changes & {"add", "delete"}
        lacks = {"guard": {"delete"}, "delete": {"add"}}.get(row["label"], set())
        assert not changes & lacks


def test_the_comment_tells_the_edit_and_its_names(rows):
    for row in rows:
        assert (row["comment"] is None) == (row["reviewed"] is None) != (row["diff"] is None)
        first = PHRASES[row["label"]][0].split("{old}")[0]
        assert row["text"].startswith(first)
        named = row["text"].removeprefix(first).split()[0]
        assert row["comment"] is None or named in row["comment"]
    assert set(Counter(row["label"] for row in rows)) == set(PHRASES)


def test_no_function_is_in_both_parts_and_the_few_are_of_training(rows):
    functions = {split: {r["function"] for r in rows if r["split"] == split}
                 for split in ("train", "validation")}  # fmt: skip
    assert not functions["train"] & functions["validation"]
    assert sum(row["few"] == "train" for row in rows) == 40
    assert all(row["few"] in ("", row["split"]) for row in rows)
    source = Edits(samples=150, few=40)
    assert source.column("split") == [row["split"] for row in rows]
    assert source.column("few") == [row["few"] for row in rows]
    assert source.rows([7])[0] == rows[7] and Edits(samples=150, seed=1).row(7) != rows[7]


def test_all_or_none_may_have_a_comment():
    assert all(row["diff"] for row in Edits(samples=9, commented=0).rows(range(9)))
    assert all(row["comment"] for row in Edits(samples=9, commented=1).rows(range(9)))
    with pytest.raises(ValueError, match="commented must lie between 0 and 1"):
        Edits(commented=1.5)
