import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polymodal import UnreadableError
from polymodal_genome import reverse_complement, reverse_complement_ids
from polymodal_genome.bases import Bases
from polymodal_genome.byte_pairs import BaseBytePairs
from polymodal_genome.kmers import Kmers

SEQUENCES = st.lists(st.none() | st.text("ACGTNacgtrU", max_size=12), max_size=5)


def kmers_one_by_one(sequence, k, stride):
    """Each k-mer by itself: the id of its letters as digits, 1 with an ambiguous letter."""
    ids = []
    for start in range(0, len(sequence) - k + 1, stride):
        word = sequence[start : start + k].upper().replace("U", "T")
        plain = all(letter in "ACGT" for letter in word)
        digits = "".join(str("ACGT".index(letter)) for letter in word) if plain else ""
        ids.append(5 + int(digits, 4) if plain else 1)
    return ids


@given(SEQUENCES, st.integers(1, 7), st.integers(1, 9), st.booleans())
def test_kmers_of_a_batch_are_those_of_each_sequence_alone(sequences, k, stride, mark_ends):
    tokenizer = Kmers(k=k, stride=stride, mark_ends=mark_ends)
    tokens = tokenizer.encode(sequences)
    wanted = [kmers_one_by_one(sequence or "", k, stride) for sequence in sequences]
    if mark_ends:
        wanted = [[3, *ids, 4] if ids else [] for ids in wanted]
    assert tokens.layout.lengths == tuple(len(ids) for ids in wanted)
    packed = [number for ids in wanted for number in ids]
    assert tokens.ids.tolist() == packed
    if mark_ends:
        assert tokens.layout.kinds.tolist() == [int(number in (3, 4)) for number in packed]
    else:
        assert tokens.layout.kinds is None  # all content
    assert tokenizer.count(sequences) == list(tokens.layout.lengths)


def test_kmer_ids_worked_out_by_hand():
    tokenizer = Kmers(k=3, max_tokens=4)
    tokens = tokenizer.encode(["AACGT", "ANCGT", "AC", None])
    assert tokens.ids.tolist() == [5 + 1, 5 + 6, 5 + 27, 1, 1, 5 + 27]
    assert tokens.layout.lengths == (3, 3, 0, 0)
    assert tokenizer.spec.vocabulary == 69
    assert tokenizer.decode(tokens) == ["AACGT", "NNCGT", "", ""]
    assert tokenizer.encode(["ACGTACGTAC"]).layout.lengths == (4,)


@given(st.text("ACGT", min_size=4, max_size=30), st.integers(1, 6))
def test_kmers_decode_to_the_letters_they_were_made_of(sequence, stride):
    tokenizer = Kmers(k=4, stride=stride, mark_ends=True)
    whole = 4 + (len(sequence) - 4) // stride * stride
    [found] = tokenizer.decode(tokenizer.encode([sequence]))
    assert len(found) == whole
    assert all(a in (b, "N") for a, b in zip(found, sequence, strict=False))
    assert stride > 4 or found == sequence[:whole]


def test_bases_have_ids_by_letter_and_lower_case_a_channel():
    tokenizer = Bases(soft_mask=True, mark_ends=True)
    tokens = tokenizer.encode(["ACgtN", None, "u"])
    assert tokens.ids.tolist() == [3, 5, 6, 7, 8, 9, 4, 3, 8, 4]
    assert tokens.layout.channels["lower"].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 0]
    assert tokenizer.spec.channels == {"lower": 2}
    assert tokenizer.decode(tokens) == ["ACgtN", "", "t"]
    assert Bases(ambiguity=False).encode(["ANR"]).ids.tolist() == [5, 1, 1]
    assert tokenizer.spec.vocabulary == 20


@given(SEQUENCES, st.booleans())
def test_bases_count_what_they_encode(sequences, mark_ends):
    tokenizer = Bases(max_tokens=8, mark_ends=mark_ends)
    tokens = tokenizer.encode(sequences)
    assert tokenizer.count(sequences) == list(tokens.layout.lengths)
    assert tokens.layout.longest <= 8
    assert tokens.ids.numel() == 0 or tokens.ids.max() < tokenizer.spec.vocabulary


@pytest.mark.parametrize("mark_ends", [False, True])
@pytest.mark.parametrize(
    "tokenizer",
    [
        lambda m: Bases(soft_mask=True, mark_ends=m),
        lambda m: Kmers(k=3, mark_ends=m),
        lambda m: Kmers(k=7, mark_ends=m),
        lambda m: Kmers(k=3, stride=3, mark_ends=m),
    ],
)
def test_ids_of_the_other_strand_are_those_of_its_letters(tokenizer, mark_ends):
    tokenizer = tokenizer(mark_ends)
    sequences = ["AAACCGTTAgac", None, "ACGTACGNT", "GATTACATG"]
    turned = reverse_complement_ids(tokenizer.encode(sequences), tokenizer.spec)
    wanted = tokenizer.encode([s and reverse_complement(s) for s in sequences])
    assert torch.equal(turned.ids, wanted.ids)
    assert torch.equal(turned.layout.positions, wanted.layout.positions)
    for name, channel in wanted.layout.channels.items():
        assert torch.equal(turned.layout.channels[name], channel)


def test_turning_over_twice_is_no_change_even_with_tokens_dropped():
    tokenizer = Bases(mark_ends=True)
    tokens = tokenizer.encode(["AACGTT", "", "CCA"])
    keep = torch.ones(tokens.layout.tokens, dtype=torch.bool)
    keep[[2, 3]] = False
    tokens = tokens.keep(keep)
    once = reverse_complement_ids(tokens, tokenizer.spec)
    assert once.layout.positions[:6, 0].tolist() == [0, 1, 2, 3, 6, 7]
    twice = reverse_complement_ids(once, tokenizer.spec)
    assert torch.equal(twice.ids, tokens.ids)
    assert torch.equal(twice.layout.positions, tokens.layout.positions)


def test_augmentation_draws_strand_and_place_from_its_generators_alone():
    tokenizer = Bases(max_tokens=4, reverse_complement=0.5)
    raws = ["AACCGGGTACGTTTAACCA"] * 40
    strands = {raws[0][i : i + 4] for i in range(16)}
    others = {reverse_complement(s) for s in strands}

    def draw(seed):
        generators = [np.random.default_rng([seed, i]) for i in range(40)]
        return tokenizer.decode(tokenizer.encode(raws, generators=generators))

    assert draw(1) == draw(1) != draw(2)
    assert set(draw(1)) <= strands | others
    assert set(draw(1)) & (others - strands)
    assert set(draw(1)) & (strands - others)
    assert tokenizer.decode(tokenizer.encode(raws)) == ["AACC"] * 40
    always = Bases(reverse_complement=1.0)
    generators = [np.random.default_rng(0)]
    assert always.decode(always.encode(["AAC"], generators=generators)) == ["GTT"]


@pytest.mark.parametrize("tokenizer", [Bases(max_unknown=0.5), Kmers(k=4, max_unknown=0.5)])
def test_check_refuses_illegal_short_and_mostly_unknown_sequences(tokenizer):
    tokenizer.check("ACGTNN")
    tokenizer.check(None)
    for raw, reason in (("ACGTNNNNN", "56%"), ("ACGZ", "'Z' at position 3"), ("", "0 bases"),
                        (3, "takes strings")):  # fmt: skip
        with pytest.raises(UnreadableError, match=reason):
            tokenizer.check(raw)


def test_sequences_shorter_than_a_kmer_are_refused():
    with pytest.raises(UnreadableError, match="2 bases, fewer than the 3"):
        Kmers(k=3).check("AC")


def test_options_out_of_range_are_refused():
    for make, options in (
        (Kmers, {"k": 0}), (Kmers, {"k": 11}), (Kmers, {"stride": 0}), (Kmers, {"max_tokens": 0}),
        (Bases, {"max_tokens": 2, "mark_ends": True}), (Bases, {"reverse_complement": 1.5}),
        (Bases, {"max_unknown": -0.5}), (BaseBytePairs, {"vocabulary_size": 8}),
        (BaseBytePairs, {"max_bases": 0}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"got"):
            make(**options)


@pytest.fixture
def pieces():
    tokenizer = BaseBytePairs(vocabulary_size=20)
    tokenizer.fit(["ACGTACGTTTACGNNACG", "acgacg", None] * 4)
    return tokenizer


def test_pieces_are_learned_over_bases_and_spell_the_sequence(pieces):
    sequences = ["ACGTACGU", None, "acgTT"]
    tokens = pieces.encode(sequences)
    assert pieces.decode(tokens) == ["ACGTACGT", "", "ACGTT"]
    assert tokens.layout.lengths[0] < 8
    vocabulary = pieces.state()["tokenizer"]["model"]["vocab"]
    assert "ACG" in vocabulary
    assert not any("N" in piece for piece in vocabulary if not piece.startswith("["))
    assert tokens.layout.channels["word"].tolist() == tokens.layout.positions[:, 0].tolist()


def test_a_run_of_ambiguous_letters_is_one_unknown_piece(pieces):
    ids = pieces.encode(["ANNNNC"]).ids.tolist()
    assert ids.count(1) == 1
    assert len(ids) == 3


def test_pieces_go_through_state_pickle_and_marks(pieces):
    marked = BaseBytePairs(vocabulary_size=20, mark_ends=True, max_tokens=4)
    marked.load_state(json.loads(json.dumps(pieces.state())))
    tokens = pickle.loads(pickle.dumps(marked)).encode(["GATTACA", ""])
    assert tokens.layout.lengths == (4, 0)
    assert tokens.ids[0] == 3
    assert tokens.ids[3] == 4
    assert tokens.layout.channels["word"].tolist() == [0, 1, 2, 3]


def test_learned_pieces_have_no_other_strand(pieces):
    with pytest.raises(ValueError, match="no complement"):
        reverse_complement_ids(pieces.encode(["ACGT"]), pieces.spec)
