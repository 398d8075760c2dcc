from dataclasses import replace

import pytest
import torch

from polymodal import Encoded, Layout, Taps, segment_mean
from polymodal_fusion import fuse
from polymodal_fusion.cross_attention import CrossAttention
from polymodal_fusion.single_stream import SingleStream

NAMES = ["image", "text"]
BERT = {"norm": "post", "entering": "summed", "width": 8}
KINDS = [
    (SingleStream, {}),
    (SingleStream, {"norm": "post", "pool": "first"}),
    (CrossAttention, {"memory": "updated"}),
    (CrossAttention, {"memory": "fixed"}),
]


def encoded(lengths, width=8, seed=0, **layout):
    vectors = torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(seed))
    return Encoded.mean_pooled(Layout.of(lengths, **layout), vectors)


def built(toys, kind, options, widths=None, **more):
    torch.manual_seed(0)
    widths = widths or {"image": 8, "text": 12}
    return kind(toys.info(**widths), streams=list(widths), depth=2, heads=2, **options, **more)


def pooled(part, pool):
    if pool != "first":
        return segment_mean(part.vectors, part.layout)
    starts = part.layout.offsets[:-1].tolist()
    pairs = zip(starts, part.layout.lengths, strict=True)
    return torch.stack([part.vectors[s] if n else torch.zeros(part.width) for s, n in pairs])


def close(one, two):
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_streams_come_back_in_their_own_layouts(toys, kind, options):
    fusion = built(toys, kind, options)
    parts = {"image": encoded([2, 0, 3]), "text": encoded([1, 4, 2], 12, 1)}
    out = fusion(parts)
    assert list(out) == NAMES
    assert fusion.width == 8
    for name in NAMES:
        assert out[name].layout is parts[name].layout
        close(out[name].pooled, pooled(out[name], options.get("pool")))
        assert out[name].width == 8


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_streams_tokens_see_the_other_stream_of_their_own_sample_only(toys, kind, options):
    fusion = built(toys, kind, options)
    image, text = encoded([2, 3]), encoded([1, 2], 12, 1)
    before = fusion({"image": image, "text": text})["image"].vectors
    moved = text.vectors.clone()
    moved[0] += 3  # the first sample's text
    other = Encoded.mean_pooled(text.layout, moved)
    after = fusion({"image": image, "text": other})["image"].vectors
    assert (after[:2] - before[:2]).abs().max() > 1e-4
    close(after[2:], before[2:])


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_permuting_the_samples_permutes_the_results(toys, kind, options):
    fusion = built(toys, kind, options)
    parts = {"image": encoded([2, 0, 3]), "text": encoded([1, 4, 0], 12, 1)}
    order = [2, 0, 1]
    moved = fusion({name: part.take(order) for name, part in parts.items()})
    for name, part in fusion(parts).items():
        close(part.take(order).vectors, moved[name].vectors)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_sample_without_one_stream_is_fused_like_one_alone(toys, kind, options):
    fusion = built(toys, kind, options)
    parts = {"image": encoded([2, 3]), "text": encoded([0, 2], 12, 1)}
    whole = fusion(parts)["image"].vectors[:2]
    close(whole, fusion({name: part.take([0]) for name, part in parts.items()})["image"].vectors)
    assert torch.isfinite(whole).all()


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("lengths", [([], []), ([0], [0]), ([0, 1], [2, 0])])
def test_absent_streams_give_finite_gradients_to_every_parameter(toys, kind, options, lengths):
    fusion = built(toys, kind, options)
    out = fusion({"image": encoded(lengths[0]), "text": encoded(lengths[1], 12)})
    sum(part.pooled.sum() + part.vectors.square().sum() for part in out.values()).backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_three_streams_and_samples_with_several_segments(toys, kind, options):
    widths = {"image": 8, "text": 8, "page": 8}
    fusion = built(toys, kind, options, widths)
    pages = encoded([1, 2, 2], owner=[1, 0, 1], samples=2, seed=3)
    parts = {"image": encoded([2, 1]), "text": encoded([1, 2], seed=1), "page": pages}
    before = fusion(parts)
    assert before["page"].vectors.shape == (5, 8)
    moved = pages.vectors.clone()
    moved[0] += 3  # a page of the second sample
    after = fusion(parts | {"page": Encoded.mean_pooled(pages.layout, moved)})
    close(after["image"].vectors[:2], before["image"].vectors[:2])
    assert (after["image"].vectors[2:] - before["image"].vectors[2:]).abs().max() > 1e-4
    image = encoded([2, 1]).vectors.clone()
    image[2] += 3  # the second sample's image reaches its pages and no others
    after = fusion(parts | {"image": Encoded.mean_pooled(Layout.of([2, 1]), image)})
    close(after["page"].vectors[1:3], before["page"].vectors[1:3])
    assert (after["page"].vectors[[0, 3]] - before["page"].vectors[[0, 3]]).abs().max() > 1e-4


def test_the_joint_tokens_come_back_under_their_name_with_what_was_tapped(toys):
    fusion = built(toys, SingleStream, {"joint": "both"})
    parts = {"image": encoded([2, 0]), "text": encoded([1, 3], 12, 1)}
    out = fusion(parts, taps=Taps(hidden=(0,), attention=(-1,)))
    both = out["both"]
    assert both.layout.lengths == (3, 3)
    assert both.pooled.shape == (2, 8)
    assert both.layout.channels["part"].tolist() == [0, 0, 1, 1, 1, 1]
    close(both.vectors[:2], out["image"].vectors)
    close(both.vectors[2:], out["text"].vectors)
    assert both.hidden[0].shape == (6, 8)
    assert both.attention[-1][0].shape[-2:] == (3, 3)
    with pytest.raises(ValueError, match="joint"):
        built(toys, SingleStream, {})(parts, taps=Taps(hidden=(0,)))


def test_what_enters_summed_is_marked_normalised_and_dropped_out(toys):
    widths = {"image": 8, "text": 8}
    fusion = built(toys, SingleStream, BERT, widths, joint="both", pool="first", dropout=0.5)
    fusion.transformer.blocks = torch.nn.ModuleList()
    parts = {"image": encoded([2, 0]), "text": encoded([1, 3], seed=1)}
    out = fusion.eval()(parts)
    for place, name in enumerate(NAMES):
        x = (parts[name].vectors + fusion.types[place]).double()
        spread = x.var(dim=1, unbiased=False, keepdim=True)
        wanted = (x - x.mean(dim=1, keepdim=True)) / (spread + 1e-6).sqrt()
        close(out[name].vectors.double(), wanted)
    # the joint tokens' first is the first stream's, where there is one
    close(out["both"].pooled[0], out["image"].vectors[0])
    close(out["both"].pooled[1], out["text"].vectors[1])
    dropped = (fusion.train()(parts)["text"].vectors == 0).float().mean()
    assert 0.2 < dropped < 0.8


def test_soft_labels_stay_with_their_stream(toys):
    soft = torch.rand(2, 5)
    image = encoded([2], channels={"classes": soft, "row": torch.tensor([3, 4])})
    fusion = built(toys, SingleStream, {"joint": "both"})
    out = fusion({"image": image, "text": encoded([1], 12)})
    assert out["image"].layout.channels["classes"] is soft
    assert set(out["both"].layout.channels) == {"row", "part"}


def test_streams_that_do_not_read_come_back_as_they_came_in(toys):
    fusion = built(toys, CrossAttention, {"reading": ["image"]})
    image, text = encoded([2]), encoded([1], 12, 1)
    out = fusion({"image": image, "text": text})
    other = fusion({"image": encoded([2], seed=5), "text": text})
    assert torch.equal(out["text"].vectors, other["text"].vectors)


def test_fixed_memory_is_the_others_tokens_as_they_came_in(toys):
    fusion = built(toys, CrossAttention, {"memory": "fixed"})
    assert len(fusion.transformers) == 2
    parts = {"image": encoded([2]), "text": encoded([2], 12, 1)}
    before = fusion(parts)
    with torch.no_grad():  # what text makes of itself can't reach the image
        for parameter in fusion.transformers[1].parameters():
            parameter.add_(0.3)
    after = fusion(parts)
    assert torch.equal(before["image"].vectors, after["image"].vectors)
    assert not torch.equal(before["text"].vectors, after["text"].vectors)


def test_edges_of_a_stream_survive_and_are_not_fused(toys):
    edges = torch.tensor([[0, 1], [1, 0]])
    part = encoded([2], edges=edges)
    for kind, options in KINDS:
        out = built(toys, kind, options)({"image": part, "text": encoded([1], 12)})
        assert out["image"].layout.edges is edges


def test_a_stream_whose_encoder_merged_tokens_keeps_its_map_back(toys):
    source = torch.tensor([0, 0, 1, 2])
    image = replace(encoded([2, 1]), source=source)
    fusion = built(toys, SingleStream, {})
    out = fuse(fusion, {"image": image, "text": encoded([1, 2], 12)}, width=8)
    assert out["image"].source is source and out["text"].source is None


def test_taken_samples_bring_all_their_segments():
    pages = encoded([1, 2, 2], owner=[1, 0, 1], samples=3)
    taken = pages.take([1, 1, 2, 0])
    assert taken.layout.lengths == (1, 2, 1, 2, 2)
    assert taken.layout.owners == (0, 0, 1, 1, 3)
    assert torch.equal(taken.vectors[:3], pages.vectors[[0, 3, 4]])
    assert torch.equal(taken.pooled, pages.pooled[[0, 2, 0, 2, 1]])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SingleStream, {"streams": ["image"]}, "two or more"),
        (SingleStream, {"streams": ["image", "sound"]}, "sound"),
        (SingleStream, {"streams": NAMES, "joint": "text"}, "joint"),
        (SingleStream, {"streams": NAMES, **BERT, "width": 6}, "summed"),
        (CrossAttention, {"streams": ["image", "image"]}, "two or more"),
        (CrossAttention, {"streams": NAMES, "reading": ["sound"]}, "reading"),
    ],
)
def test_bad_options_are_refused(toys, kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(toys.info(image=8, text=8), **options)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_other_parts_than_the_streams_are_refused(toys, kind, options):
    with pytest.raises(ValueError, match="image"):
        built(toys, kind, options)({"image": encoded([1])})


def test_a_fusion_that_leaves_a_stream_out_is_refused(toys):
    class Forgetful(torch.nn.Module):
        width = 8

        def forward(self, parts):
            return {"image": parts["image"]}

    parts = {"image": encoded([1]), "text": encoded([1])}
    with pytest.raises(ValueError, match="text"):
        fuse(Forgetful(), parts, width=8)
    with pytest.raises(ValueError, match="fusion_width: 8"):
        fuse(Forgetful(), parts, width=4)
