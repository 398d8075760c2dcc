import pytest
import torch

from polymodal import Taps, TokenSpec
from polymodal_genome import reverse_complement
from polymodal_genome.bases import Bases
from polymodal_genome.byte_pairs import BaseBytePairs
from polymodal_genome.encoder import GenomeTransformer
from polymodal_genome.kmers import Kmers

SEQUENCES = ["AAACCGTTAGAC", "ACGTACGNT", "GATTACATG"]
OTHERS = [reverse_complement(sequence) for sequence in SEQUENCES]


@pytest.mark.parametrize("pool", ["mean", "class", "first"])
@pytest.mark.parametrize(
    "tokenizer", [Bases(mark_ends=True), Bases(soft_mask=True), Kmers(k=3), Kmers(k=3, stride=3)]
)
def test_both_strands_of_a_sequence_have_one_pooled_vector(tokenizer, pool):
    torch.manual_seed(0)
    encoder = GenomeTransformer(
        tokenizer.spec, size="pico", pool=pool, reverse_complement="average"
    ).eval()
    one, other = (encoder(tokenizer.encode(s)).pooled for s in (SEQUENCES, OTHERS))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    single = GenomeTransformer(tokenizer.spec, size="pico", pool=pool).eval()
    one, other = (single(tokenizer.encode(s)).pooled for s in (SEQUENCES, OTHERS))
    assert (one - other).abs().max() > 1e-3


def test_vectors_and_taps_are_those_of_the_strand_given():
    tokenizer = Bases()
    torch.manual_seed(0)
    both = GenomeTransformer(tokenizer.spec, size="pico", reverse_complement="average").eval()
    tokens = tokenizer.encode([SEQUENCES[0], None, SEQUENCES[1]])
    taps = Taps(hidden=(-1,), attention=(0,))
    found, single = both(tokens, taps=taps), both.strand(tokens, taps=taps)
    assert found.layout is tokens.layout
    torch.testing.assert_close(found.vectors, single.vectors)
    torch.testing.assert_close(found.hidden[-1], single.hidden[-1])
    assert [m.shape for m in found.attention[0]] == [m.shape for m in single.attention[0]]
    assert not found.pooled[1].any()


def test_vectors_do_not_change_with_the_place_of_a_sequence():
    tokenizer = Bases()
    encoder = GenomeTransformer(tokenizer.spec, size="pico").eval()
    tokens = tokenizer.encode(["ACGTTGCA"])
    later = torch.ones(8, dtype=torch.bool)
    later[:3] = False  # positions 3 to 7 remain
    torch.testing.assert_close(
        encoder(tokens.keep(later)).vectors, encoder(tokenizer.encode(["TTGCA"])).vectors,
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("choice", ["none", "average"])
@pytest.mark.parametrize("sequences", [[], [None, None]])
def test_no_sequence_at_all_passes_forward_and_backward(choice, sequences):
    tokenizer = Kmers(k=3)
    encoder = GenomeTransformer(tokenizer.spec, size="pico", reverse_complement=choice)
    encoded = encoder(tokenizer.encode(sequences))
    assert encoded.pooled.shape == (len(sequences), 64)
    (encoded.pooled.sum() + encoded.vectors.sum()).backward()
    assert all(p.grad is None or not p.grad.any() for p in encoder.parameters())


def test_no_sample_sees_another_nor_its_other_strand():
    tokenizer = Bases()
    encoder = GenomeTransformer(tokenizer.spec, size="pico", reverse_complement="average").eval()
    together = encoder(tokenizer.encode(["ACGTT", "GGGCA"])).pooled[0]
    other = encoder(tokenizer.encode(["ACGTT", "TATAT"])).pooled[0]
    assert torch.equal(together, other)


def test_strands_can_be_averaged_only_where_complements_are_known():
    pieces = BaseBytePairs(vocabulary_size=1029)  # as many ids as 5-mers have
    for spec in (pieces.spec, TokenSpec(vocabulary=20)):
        with pytest.raises(ValueError, match=r"genome\.bases or genome\.kmers"):
            GenomeTransformer(spec, size="pico", reverse_complement="average")
        GenomeTransformer(spec, size="pico")
    with pytest.raises(ValueError, match="causal"):
        GenomeTransformer(Bases().spec, size="pico", causal=True, reverse_complement="average")


def test_scores_over_the_vocabulary_use_the_table_of_ids():
    encoder = GenomeTransformer(Bases().spec, size="pico")
    rows = encoder.embedding(torch.tensor([5, 6]))
    assert torch.equal(encoder.unembed(rows), rows @ encoder.strand.stem.tokens.weight.T)
    assert len(encoder.layers()) == 3
