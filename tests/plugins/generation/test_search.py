import itertools
import math

import pytest
import torch

from polymodal_generation import beam_search

START, END, VOCABULARY, LONGEST = 0, 1, 4, 4


def chances(seed):
    """A made-up language: log-probabilities of each next id by the whole prefix."""
    generator = torch.Generator().manual_seed(seed)
    table = {}
    for length in range(LONGEST):
        for prefix in itertools.product(range(VOCABULARY), repeat=length):
            logits = 2 * torch.randn(VOCABULARY, generator=generator, dtype=torch.float64)
            table[prefix] = logits.log_softmax(dim=0)
    return table


def best_of_all(table, penalty):
    """Exhaustive search: the best of all sequences that end, or are as long as may be."""
    found = {}
    for length in range(1, LONGEST + 1):
        for text in itertools.product(range(VOCABULARY), repeat=length):
            if END in text[:-1] or (text[-1] != END and length < LONGEST):
                continue
            score = sum(float(table[text[:i]][text[i]]) for i in range(length))
            found[text] = score / length**penalty
    best = max(found, key=found.get)
    return [i for i in best if i != END]


def search(tables, *, beams, penalty=1.0):
    def score(prefixes):
        segments = prefixes.ids.split(list(prefixes.layout.lengths))
        assert all(segment[0] == START for segment in segments)
        rows = [
            tables[number // beams][tuple(segment[1:].tolist())]
            for number, segment in enumerate(segments)
        ]
        return torch.stack(rows)

    return beam_search(
        score, samples=len(tables), start=START, end=END, max_tokens=LONGEST, beams=beams,
        length_penalty=penalty,
    )  # fmt: skip


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.6, 1.0, 2.0])
def test_with_beams_for_every_sequence_it_finds_what_exhaustive_search_finds(penalty):
    tables = [chances(seed) for seed in range(6)]
    found = search(tables, beams=VOCABULARY**LONGEST, penalty=penalty)
    assert found == [best_of_all(table, penalty) for table in tables]


def test_one_beam_is_greedy_and_more_beams_find_what_it_misses():
    sure = torch.tensor([0.0, 0.0, 0.6, 0.4]).log()
    table = {
        (): sure,  # the likelier first id
        (2,): torch.tensor([0.0, 0.3, 0.4, 0.3]).log(),
        (3,): torch.tensor([0.0, 1.0, 0.0, 0.0]).log(),
        (2, 2): torch.tensor([0.0, 1.0, 0.0, 0.0]).log(),
        (2, 3): torch.tensor([0.0, 1.0, 0.0, 0.0]).log(),
    }
    for first in range(VOCABULARY):  # what no beam of any chance reaches
        for second in range(VOCABULARY):
            table.setdefault((first,), sure)
            table.setdefault((first, second), sure)
            for third in range(VOCABULARY):
                table[(first, second, third)] = sure
    assert search([table], beams=1, penalty=0.0) == [[2, 2]]
    assert search([table], beams=2, penalty=0.0) == [[3]]  # 0.4 beats 0.6 x 0.4


def test_a_greater_penalty_favours_longer_texts():
    halves = torch.tensor([0.0, 0.5, 0.5, 0.0]).log()
    table = {prefix: halves for n in range(LONGEST)
             for prefix in itertools.product(range(VOCABULARY), repeat=n)}  # fmt: skip
    # -log 2 a token: the mean is alike for all, the sum best for the shortest
    assert search([table], beams=16, penalty=0.0) == [[]]
    assert search([table], beams=16, penalty=2.0) == [[2] * LONGEST]
    assert math.isclose(float(halves[1]), -math.log(2), rel_tol=1e-6)


def test_samples_do_not_depend_on_each_other():
    tables = [chances(seed) for seed in range(4)]
    alone = [search([table], beams=3)[0] for table in tables]
    assert search(tables, beams=3) == alone


def test_no_samples_and_bad_numbers():
    assert search([], beams=2) == []
    with pytest.raises(ValueError, match="beams and max_tokens must be 1 or more"):
        search([chances(0)], beams=0)
