from dataclasses import replace

import pytest
import torch

from polymodal import DataError, Layout, Tokens
from polymodal_hiding import balanced_counts, choose_balanced, word_numbers

CASES = [(0, 10), (1, 10), (3, 10), (4, 10), (5, 10), (8, 10), (2, 40), (10, 40)]


def noise(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def chosen(concept, lengths, *, allowed=None, **options):
    """What is hidden of segments of these lengths, as (tokens, choice, origin)."""
    tokens = Tokens(Layout.of(lengths), ids=torch.arange(sum(lengths)))
    concept = torch.tensor(concept, dtype=torch.bool)
    allowed = torch.ones_like(concept) if allowed is None else torch.tensor(allowed)
    options = {"amount": "double", **options}
    return choose_balanced(tokens, concept, allowed, noise(len(concept)), **options)


@pytest.mark.parametrize(
    ("amount", "wanted"),
    [("double", [0, 2, 6, 8, 8, 10, 4, 20]), ("ratio", [0, 2, 2, 2, 2, 2, 4, 6])],
)
def test_counts_are_those_of_the_papers_code(amount, wanted):
    concepts, lengths = zip(*CASES, strict=True)
    assert balanced_counts(concepts, lengths, amount=amount) == wanted


def test_half_of_what_is_hidden_carries_the_concept():
    for with_it, length in [(1, 10), (3, 10), (4, 10), (2, 40), (10, 40)]:
        concept = [place < with_it for place in range(length)]
        _, choice, _ = chosen(concept, [length])
        assert len(choice.hidden) == 2 * with_it
        assert (choice.hidden < with_it).sum() == with_it


def test_a_text_without_the_concept_hides_nothing_and_specials_are_never_hidden():
    concept = [True, False, False, False, True, False, False, False]
    allowed = [False, True, True, True, True, True, True, False]
    _, choice, _ = chosen(concept, [4, 4], allowed=allowed)  # the only one of the first is special
    assert choice.hidden_lengths == (0, 2)
    assert 4 in choice.hidden.tolist() and 7 not in choice.hidden.tolist()
    assert chosen([], [])[1].hidden.tolist() == []


def test_copies_go_on_until_every_token_with_the_concept_was_hidden_once():
    # 7 of 20 with the ratio 0.15 hide 3 a copy, 2 of them with the concept: four copies.
    concept = [place % 3 == 0 for place in range(20)]
    tokens, choice, origin = chosen([*concept, False, False], [20, 2], amount="ratio", cover=True)
    assert tokens.layout.lengths == (20,) * 4 + (2,)
    assert tokens.layout.owners == (0, 0, 0, 0, 1) and tokens.layout.samples == 2
    assert choice.hidden_lengths == (3, 3, 3, 3, 0)
    hidden = origin[choice.hidden].tolist()
    carrying = [row for row in hidden if concept[row]]
    assert len(carrying) == 8 and set(carrying) == {0, 3, 6, 9, 12, 15, 18}
    assert carrying[:7].count(carrying[-1]) <= 1  # only the last copy starts over
    assert len({row for row in hidden if not concept[row]}) == 4  # others go on as well


def test_where_others_run_out_copies_still_end():
    tokens, choice, origin = chosen([True] * 5 + [False] * 5, [10], cover=True)
    assert choice.hidden_lengths == (8, 8)  # 4 of 5 with the concept, then the last and 3 again
    assert set(origin[choice.hidden].tolist()) >= set(range(5))
    assert torch.equal(tokens.ids, torch.arange(10).repeat(2))


def words(toys, segments):
    """Texts between begin and end, two tokens a word, as the tokenizer of text numbers them."""
    tokens = toys.id_tokens([[toys.BEGIN, *ids, toys.END] for ids in segments])
    word = [
        n for ids in segments for n in (0, *(1 + p // 2 for p in range(len(ids))), len(ids) // 2)
    ]
    channels = {"word": torch.tensor(word, dtype=torch.int64)}
    return Tokens(replace(tokens.layout, channels=channels), ids=tokens.ids)


def test_every_token_of_a_word_has_its_label_and_specials_have_none(toys):
    tokens = words(toys, [[5, 6, 7, 8], [9, 9], [4, 4]])
    found = word_numbers(tokens, toys.IDS, [[3, 1], None, [2, 7]], field="tags")
    assert found.tolist() == [-1, 3, 3, 1, 1, -1, -1, -1, -1, -1, -1, 2, 2, -1]


def test_a_text_with_fewer_labels_than_words_is_refused(toys):
    tokens = words(toys, [[5, 6, 7, 8]])
    with pytest.raises(DataError, match="'tags' must hold a label for each word.* 2 words"):
        word_numbers(tokens, toys.IDS, [[1]], field="tags")


def test_the_objective_hides_adjectives_and_as_many_others_and_reads_the_same_copy_twice(toys):
    model = toys.model(
        {"text": toys.IDS},
        objective=toys.named(
            "masking.tokens", stream="text",
            hide={"use": "hiding.concept", "labels": "tags", "concept": ["ADJ"]},
            replace={"use": "replacing.bert", "mask": 1.0, "random": 0.0},
        ),
    )  # fmt: skip
    batch = toys.batch(text=words(toys, [[5, 6, 7, 8, 9, 10], [9, 9]]))
    batch = replace(batch, fields={"tags": (["NOUN", "ADJ", "VERB"], ["VERB"])})
    step = toys.step(model, batch)
    task = model.objective("objective")
    assert task.fields() == ("tags",) and task.count(step) == 4
    found = task(step)
    assert found.count == 4  # two tokens of the adjective, two others, none of the second text
    assert step.shared(task) is step.shared(task)
    hidden = step.shared(task).hidden
    assert {3, 4} < set(hidden.rows.tolist()) <= set(range(1, 7))
    assert toys.gradients_are_finite(model, found)


def test_copies_are_scored_each(toys):
    def model(cover):
        return toys.model(
            {"text": toys.IDS},
            objective=toys.named(
                "masking.tokens", stream="text", units="concept", labels="tags", concept=["ADJ"],
                amount="ratio", cover=cover,
            ),
        )  # fmt: skip

    batch = toys.batch(text=words(toys, [[5, 6, 7, 8, 9, 10, 3, 4]]))
    batch = replace(batch, fields={"tags": (["ADJ", "ADJ", "ADJ", "VERB"],)})
    # One token a copy of eight, and six that carry the concept.
    assert toys.loss(model(False), batch).count == 1
    assert toys.loss(model(True), batch).count == 6


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"units": "concept"}, "go together"),
        ({"labels": "tags", "concept": ["A"]}, "go together"),
        ({"cover": True}, "cover needs units concept"),
    ],
)
def test_options_that_do_not_go_together_are_refused(toys, options, reason):
    with pytest.raises(ValueError, match=reason):
        toys.named("masking.tokens", stream="text", **options)
