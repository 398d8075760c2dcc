import pytest
import torch

from polymodal import Encoded, Layout, StreamInfo, Taps, TokenSpec, segment_mean
from polymodal_fusion.causal_chain import CausalChain


def known(causal=True, **widths):
    return {
        name: StreamInfo(TokenSpec(features=4), width, causal) for name, width in widths.items()
    }


def built(streams=None, **options):
    torch.manual_seed(0)
    info = known(sed=8, image=8)
    return CausalChain(info, streams=streams, heads=2, **{"depth": 2, **options}).eval()


def encoded(lengths, seed=0, **layout):
    vectors = torch.randn(sum(lengths), 8, generator=torch.Generator().manual_seed(seed))
    return Encoded.mean_pooled(Layout.of(lengths, **layout), vectors)


def changed(part, row):
    vectors = part.vectors.clone()
    vectors[row, 0] += 3  # a shift of all would be normalised away
    return Encoded.mean_pooled(part.layout, vectors)


def moved(before, after):
    return [
        (name, row)
        for name in before
        for row in range(before[name].layout.tokens)
        if not torch.allclose(before[name].vectors[row], after[name].vectors[row], atol=1e-6)
    ]


def test_a_change_is_seen_by_itself_and_later_tokens_of_the_sample_alone():
    fusion = built(["image", "sed"])
    parts = {"image": encoded([3, 2]), "sed": encoded([2, 2], 1)}
    before = fusion(parts)
    after = fusion({**parts, "image": changed(parts["image"], 1)})
    assert moved(before, after) == [("image", 1), ("image", 2), ("sed", 0), ("sed", 1)]
    after = fusion({**parts, "sed": changed(parts["sed"], 3)})
    assert moved(before, after) == [("sed", 3)]


def test_the_order_is_by_name_unless_given():
    assert list(built().needs()) == ["image", "sed"]
    turned = built(["sed", "image"])
    parts = {"image": encoded([2]), "sed": encoded([1], 1)}
    after = turned({**parts, "sed": changed(parts["sed"], 0)})
    assert moved(turned(parts), after) == [("sed", 0), ("image", 0), ("image", 1)]


@pytest.mark.parametrize(("pool", "block"), [(None, 1), (0, 0), (-1, 2)])
def test_pooled_is_the_mean_after_the_middle_block_or_the_one_named(pool, block):
    fusion = built(depth=3, pool=pool)
    parts = {"image": encoded([3, 0]), "sed": encoded([1, 2], 1)}
    out = fusion(parts, taps=Taps(hidden=(0, 1, 2)))
    for part in out.values():
        assert set(part.hidden) == {0, 1, 2}
        expected = segment_mean(part.hidden[block], part.layout)
        torch.testing.assert_close(part.pooled, expected)
    assert out["image"].pooled[1].abs().sum() == 0
    assert not fusion(parts)["image"].hidden


def test_several_segments_of_a_sample_are_one_sequence():
    fusion = built()
    apart = {"image": encoded([2, 1], owner=[0, 0], samples=1), "sed": encoded([2], 1)}
    whole = {"image": Encoded.mean_pooled(Layout.of([3]), apart["image"].vectors),
             "sed": apart["sed"]}  # fmt: skip
    for name in apart:
        torch.testing.assert_close(fusion(apart)[name].vectors, fusion(whole)[name].vectors)


def test_streams_that_can_not_be_chained_are_refused():
    with pytest.raises(ValueError, match="one width"):
        CausalChain(known(image=8, sed=12))
    with pytest.raises(ValueError, match="needs a causal encoder"):
        CausalChain(known(causal=False, image=8))
    with pytest.raises(ValueError, match="one or more different"):
        built(["image", "image"])
    with pytest.raises(ValueError, match="Did you mean 'image'"):
        built(["imag"])
    with pytest.raises(ValueError, match="no block 2"):
        built(pool=2)
    with pytest.raises(ValueError, match="no attention maps"):
        built()({"image": encoded([1]), "sed": encoded([1])}, taps=Taps(attention=(0,)))
