"""Attention: every back end against one naive float64 loop, gradients included."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.packed.attention import attend, attention_maps
from polymodal.packed.attention.pairing import Pairing
from polymodal.packed.layout import Layout

# Shapes are checked on demand (--jaxtyping-packages), which dynamo can't trace through.
traced = pytest.mark.skipif(hasattr(attend, "__wrapped__"), reason="shape checks can't be traced")
quick = settings(deadline=None, max_examples=40)
lengths_of = st.lists(st.integers(0, 7), max_size=6)
HEADS, DIM = 2, 8


def reference(q, k, v, layout, *, memory=None, causal=False, window=None, bias=None,
              edges="ignore", guided=(), self_loops=True, edge_bias=None, scale=None):  # fmt: skip
    """One query and one head at a time, in float64."""
    source = layout if memory is None else memory
    q, k, v = q.double(), k.double(), v.double()
    scale = 1 / math.sqrt(q.shape[2]) if scale is None else scale
    listed = [] if layout.edges is None else layout.edges.T.tolist()
    rows = []
    for query in range(len(q)):
        segment = int(layout.segment[query])
        first, end = source.offsets[segment : segment + 2].tolist()
        start = int(layout.offsets[segment])
        keys = [
            key
            for key in range(first, end)
            if (not causal or key <= query)
            and (window is None or abs(key - query) <= window)
            and (
                edges == "ignore"
                or (
                    edges == "guide"
                    and not {int(layout.kinds[i]) for i in (key, query)} & {*guided}
                )
                or [key, query] in listed
                or (self_loops and key == query)
            )
        ]
        assert memory is not None or first == start
        for head in range(q.shape[1]):
            if not keys:
                rows.append(v.new_zeros(v.shape[2]))
                continue
            scores = []
            for key in keys:
                score = (q[query, head] * k[key, head]).sum() * scale
                if bias is not None:
                    indices = [torch.tensor(each) for each in (head, query, key)]
                    score = score + bias(*indices).double()
                if edge_bias is not None:
                    for edge, pair in enumerate(listed):
                        if pair == [key, query]:
                            score = score + edge_bias[edge, head].double()
                scores.append(score)
            weights = torch.stack(scores).softmax(dim=0)
            rows.append((weights[:, None] * v[keys, head]).sum(dim=0))
    return torch.stack(rows).reshape(len(q), q.shape[1], -1) if rows else v.new_zeros(q.shape)


def random_rows(count, *, seed=0, dim=DIM, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, HEADS, dim, generator=generator, dtype=dtype)


def with_edges(lengths, *, seed=0, share=0.4):
    """A layout with random edges, some of them twice, some from a token to itself."""
    generator = torch.Generator().manual_seed(seed)
    layout = Layout.of(lengths)
    same = layout.segment[:, None] == layout.segment
    found = (same & (torch.rand(same.shape, generator=generator) < share)).nonzero()
    found = torch.cat([found, found[:2]])
    order = torch.randperm(len(found), generator=generator)
    kinds = torch.randint(4, (layout.tokens,), generator=generator)
    return Layout.of(lengths, edges=found[order].T, kinds=kinds)


def by_distance(table):
    """A relative-position bias: learned by head and clipped distance."""
    reach = table.shape[1] // 2

    def bias(head, query, key):
        return table[head, (key - query).clamp(-reach, reach) + reach]

    return bias


CASES = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"window": 1},
    "causal window": {"causal": True, "window": 2},
    "scale": {"scale": 0.3},
    "bias": {"bias": True},
    "causal bias": {"causal": True, "bias": True},
    "window bias": {"window": 2, "bias": True},
    "edge bias": {"edge_bias": True},
    "causal edge bias": {"causal": True, "edge_bias": True},
    "both biases": {"bias": True, "edge_bias": True},
    "restrict": {"edges": "restrict"},
    "restrict without loops": {"edges": "restrict", "self_loops": False},
    "restrict causal": {"edges": "restrict", "causal": True, "edge_bias": True},
    "restrict with biases": {"edges": "restrict", "edge_bias": True, "bias": True, "window": 3},
    "guide": {"edges": "guide", "guided": (1, 3)},
    "guide without loops": {"edges": "guide", "guided": (1, 3), "self_loops": False},
    "guide causal": {"edges": "guide", "guided": (2,), "causal": True, "self_loops": False},
    "guide with biases": {
        "edges": "guide",
        "guided": (0,),
        "edge_bias": True,
        "bias": True,
        "window": 2,
    },
}
LENGTHS = [(3, 3, 3), (0, 4, 0, 4), (5, 0, 2, 1, 2, 7), (1, 1, 1), (6,), (0, 0), ()]


def made(case, layout, dtype=torch.float64):
    """Options of a case, and the tensors to take gradients for."""
    options = dict(CASES[case])
    inputs = [random_rows(layout.tokens, seed=i, dtype=dtype) for i in range(3)]
    if options.pop("bias", False):
        inputs.append(random_rows(1, dim=5, dtype=dtype)[0])
        options["bias"] = by_distance(inputs[-1].requires_grad_())
    if options.pop("edge_bias", False):
        inputs.append(random_rows(layout.edges.shape[1], dim=1, dtype=dtype)[..., 0])
        options["edge_bias"] = inputs[-1]
    return options, [each.requires_grad_() for each in inputs]


def agree(output, expected, inputs, *, atol):
    assert torch.allclose(output.double(), expected, atol=atol)
    weight = random_rows(len(output), seed=9, dtype=torch.float64).to(output.device)
    found = torch.autograd.grad((output.double() * weight).sum(), inputs)
    anchored = (expected * weight).sum() + sum(0 * each.double().sum() for each in inputs)
    wanted = torch.autograd.grad(anchored, inputs)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.double(), other.double(), atol=10 * atol)


@pytest.mark.parametrize("backend", ["grouped", "padded"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_rectangles_and_edges_agree_with_the_loop(lengths, case, backend):
    layout = with_edges(lengths)
    options, inputs = made(case, layout)
    output = attend(*inputs[:3], layout, backend=backend, **options)
    expected = reference(*inputs[:3], layout, **options)
    agree(output, expected, inputs, atol=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if "restrict" not in case])
@pytest.mark.parametrize("lengths", LENGTHS[:5], ids=str)
@traced
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_masks_and_scores_agree_with_the_loop(lengths, case):
    layout = with_edges(lengths)
    options, inputs = made(case, layout, torch.float32)
    with torch.no_grad():  # on CPU it has no backward pass
        rows = [each.detach() for each in inputs[:3]]
        output = attend(*rows, layout, backend="flex", **options)
    expected = reference(*inputs[:3], layout, **options)
    assert torch.allclose(output.double(), expected, atol=1e-5)


@traced
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_tiles_hold_every_pair_when_there_are_many_of_them():
    layout = Layout.of([100, 0, 30, 300, 1, 128, 127])
    memory = Layout.of([5, 9, 300, 0, 1, 260, 130])
    for causal, other in [(False, None), (True, None), (False, memory)]:
        source = other or layout
        q = random_rows(layout.tokens)
        k, v = random_rows(source.tokens, seed=1), random_rows(source.tokens, seed=2)
        options = {"memory": other, "causal": causal}
        output = attend(q, k, v, layout, backend="flex", **options)
        expected = attend(q, k, v, layout, backend="padded", **options)
        assert torch.allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize("backend", ["grouped", "padded"])
@pytest.mark.parametrize("biased", [False, True])
@quick
@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5))
def test_cross_attention_agrees_with_the_loop(backend, biased, pairs):
    layout = Layout.of([queries for queries, _ in pairs])
    memory = Layout.of([keys for _, keys in pairs])
    inputs = [random_rows(layout.tokens, dtype=torch.float64)]
    inputs += [random_rows(memory.tokens, seed=i, dtype=torch.float64) for i in (1, 2)]
    bias = None
    if biased:
        inputs.append(random_rows(1, dim=7, dtype=torch.float64)[0])
        bias = by_distance(inputs[-1])
    for each in inputs:
        each.requires_grad_()
    expected = reference(*inputs[:3], layout, memory=memory, bias=bias)
    output = attend(*inputs[:3], layout, memory=memory, bias=bias, backend=backend)
    agree(output, expected, inputs, atol=1e-9)


@quick
@given(lengths=lengths_of, case=st.sampled_from(sorted(CASES)))
def test_any_lengths_agree_with_the_loop_in_float32(lengths, case):
    layout = with_edges(lengths)
    options, inputs = made(case, layout, torch.float32)
    output = attend(*inputs[:3], layout, **options)
    expected = reference(*inputs[:3], layout, **options)
    assert output.dtype == torch.float32
    assert torch.allclose(output.double(), expected, atol=1e-5)


@quick
@given(lengths=lengths_of, case=st.sampled_from(sorted(CASES)))
def test_maps_are_the_weights_of_attention(lengths, case):
    layout = with_edges(lengths)
    options, (q, k, v, *_) = made(case, layout)
    maps = attention_maps(q, k, layout, **options)
    assert [each.shape for each in maps] == [(HEADS, length, length) for length in lengths]
    output = attend(q, k, v, layout, **options)
    for each, values, wanted in zip(
        maps, v.split(lengths) if lengths else (), output.split(lengths) if lengths else ()
    ):
        assert torch.allclose(torch.einsum("hqk,khd->qhd", each, values), wanted, atol=1e-9)


def test_maps_of_cross_attention_have_a_row_for_each_query():
    layout, memory = Layout.of([2, 0, 3]), Layout.of([1, 2, 0])
    q, k = random_rows(5), random_rows(3)
    maps = attention_maps(q, k, layout, memory=memory)
    assert [tuple(each.shape) for each in maps] == [(2, 2, 1), (2, 0, 2), (2, 3, 0)]
    assert (maps[0] == 1).all()


@pytest.mark.parametrize("backend", ["grouped", "padded"])
@pytest.mark.parametrize("case", CASES)
def test_a_sample_s_content_changes_no_other_s_output_bit_for_bit(case, backend):
    layout = with_edges([5, 3, 3, 4, 1])
    options, inputs = made(case, layout, torch.float32)
    changed = [each.detach().clone() for each in inputs[:3]]
    for each in changed:
        each[5:8] = 100 * torch.randn(3, HEADS, DIM)
    before = attend(*inputs[:3], layout, backend=backend, **options)
    after = attend(*changed, layout, backend=backend, **options)
    others = torch.tensor([*range(5), *range(8, 16)])
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[5:8], after[5:8])


@pytest.mark.parametrize("backend", ["grouped", "padded"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_sample_that_is_not_a_number_stays_alone(backend, causal):
    layout = Layout.of([5, 3, 4, 2])
    inputs = [random_rows(14, seed=i) for i in range(3)]
    for each in inputs:
        each[5:8] = float("nan")
    output = attend(*inputs, layout, backend=backend, causal=causal)
    assert output[:5].isfinite().all()
    assert output[8:].isfinite().all()


@pytest.mark.parametrize("case", ["plain", "causal", "bias", "edge bias", "restrict", "guide"])
def test_a_sample_s_length_changes_no_other_s_output(case):
    def run(first, last):
        small = with_edges([6])
        lengths = [first, 6, last]
        kinds = torch.ones(sum(lengths), dtype=torch.int64)
        kinds[first : first + 6] = small.kinds
        layout = Layout.of(lengths, edges=small.edges + first, kinds=kinds)
        inputs = [random_rows(layout.tokens, seed=7, dtype=torch.float32) for _ in range(3)]
        for i, each in enumerate(inputs):
            each[first : first + 6] = random_rows(6, seed=i)
        options = dict(CASES[case])
        if options.pop("bias", False):
            options["bias"] = by_distance(random_rows(1, dim=5)[0])
        if options.pop("edge_bias", False):
            options["edge_bias"] = random_rows(small.edges.shape[1], dim=1)[..., 0]
        return attend(*inputs, layout, **options)[first : first + 6]

    alone = run(0, 0)
    for first, last in [(6, 6), (3, 1), (0, 9), (40, 2)]:
        assert torch.allclose(alone, run(first, last), atol=1e-6)


def test_a_query_with_nothing_to_see_yields_zeros_and_finite_gradients():
    layout, memory = Layout.of([2, 3]), Layout.of([0, 2])
    q, k, v = (random_rows(n, seed=n).requires_grad_() for n in (5, 2, 2))
    output = attend(q, k, v, layout, memory=memory)
    assert (output[:2] == 0).all()
    assert (output[2:] != 0).all()
    output.sum().backward()
    assert all(each.grad.isfinite().all() for each in (q, k, v))
    assert (q.grad[:2] == 0).all()


def test_without_any_pair_all_three_still_get_gradients():
    for layout, memory in [(Layout.of([0, 0]), None), (Layout.of([2]), Layout.of([0]))]:
        source = memory or layout
        q = random_rows(layout.tokens).requires_grad_()
        k, v = (random_rows(source.tokens).requires_grad_() for _ in range(2))
        attend(q, k, v, layout, memory=memory).sum().backward()
        assert all(each.grad is not None for each in (q, k, v))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2000])  # narrow rows share rectangles, wide ones do not
def test_however_segments_are_grouped_the_outcome_is_the_same(causal, heads):
    lengths = [9, 1, 4, 4, 0, 12, 9, 2, 1]
    layout = Layout.of(lengths)
    inputs = [torch.randn(layout.tokens, heads, 2).requires_grad_() for _ in range(3)]
    buckets, order = Pairing.of(layout, None).buckets(heads * 2)
    assert sorted(order) == list(range(8))
    assert len(buckets) == 1 if heads == 1 else len(buckets) > 1
    weight = torch.randn(layout.tokens, heads, 2)
    found, wanted = [], []
    for backend, into in [("grouped", found), ("padded", wanted)]:
        output = attend(*inputs, layout, causal=causal, backend=backend)
        into += [output, *torch.autograd.grad((output * weight).sum(), inputs)]
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_gradients_of_gradients_are_right():
    layout = Layout.of([2, 1, 3])
    inputs = [random_rows(6, seed=i, dim=2, dtype=torch.float64) for i in range(3)]

    def maps_apart(q, k, v):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return attend(q, k, v, layout, backend="padded")

    for each in inputs:
        each.requires_grad_()
    assert torch.autograd.gradgradcheck(maps_apart, inputs)


def test_guided_tokens_with_nothing_to_see_yield_zeros_and_finite_gradients():
    layout = Layout.of([3, 2], kinds=torch.tensor([0, 1, 0, 1, 1]))
    inputs = [random_rows(5, seed=i).requires_grad_() for i in range(3)]
    output = attend(*inputs, layout, edges="guide", guided=(1,), self_loops=False)
    assert (output[[1, 3, 4]] == 0).all()
    assert (output[[0, 2]] != 0).all()
    output.sum().backward()
    assert all(each.grad.isfinite().all() for each in inputs)
    assert (inputs[2].grad[[1, 3, 4]] == 0).all()


@pytest.mark.parametrize("edges", ["ignore", "restrict"])
def test_dropout_drops_weights_and_keeps_their_mean(edges):
    layout = with_edges([40], share=1.0)
    q = k = torch.zeros(40, 1, 4)
    v = torch.ones(40, 1, 4)
    torch.manual_seed(0)
    output = attend(q, k, v, layout, edges=edges, dropout=0.5)
    assert not torch.equal(output, v)
    assert (output.mean() - 1).abs() < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["plain", "causal", "bias", "edge bias", "restrict", "guide"])
def test_half_precision_goes_in_and_comes_out(case, dtype):
    layout = with_edges([3, 5, 2])
    options, inputs = made(case, layout, dtype)
    output = attend(*inputs[:3], layout, **options)
    assert output.dtype == dtype
    expected = reference(*inputs[:3], layout, **options)
    assert torch.allclose(output.double(), expected, atol=0.05)


@pytest.mark.skipif(hasattr(attend, "__wrapped__"), reason="shape checks refuse first")
def test_wrong_options_are_refused():
    layout = Layout.of([2, 1])
    rows = random_rows(3)
    wrong = {
        "2 segments but memory 1": {"memory": Layout.of([3])},
        "without memory": {"memory": Layout.of([2, 1]), "causal": True},
        "window must be 0 or more": {"window": -1},
        "edges must be": {"edges": "bias"},
        "guided kinds and edges": {"edges": "guide"},
        "varlen": {"edges": "guide", "guided": (1,), "backend": "varlen"},
        "backend must be one of": {"backend": "fast"},
        "0 edges by 2 heads": {"edge_bias": torch.zeros(1, 2)},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            attend(rows, rows, rows, layout, **options)
    with pytest.raises(ValueError, match="2 queries for a layout of 3 tokens"):
        attend(rows[:2], rows, rows, layout)
    with pytest.raises(ValueError, match="3 keys and 2 values for 3 tokens"):
        attend(rows, rows, rows[:2], layout)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lengths", [*LENGTHS, (300, 0, 17, 128, 129, 1)], ids=str)
def test_cuda_agrees_with_the_loop_in_float32(lengths, case):
    layout = with_edges(lengths, share=min(0.4, 4 / max(max(lengths, default=1), 1)))
    options, inputs = made(case, layout.to("cuda"), torch.float64)
    inputs = [each.detach().float().cuda().requires_grad_() for each in inputs]
    if "bias" in options:
        options["bias"] = by_distance(inputs[3])
    if "edge_bias" in options:
        options["edge_bias"] = inputs[-1]
    output = attend(*inputs[:3], layout.to("cuda"), **options)
    doubles = [each.detach().double().requires_grad_() for each in inputs]
    if "bias" in options:
        options["bias"] = by_distance(doubles[3])
    if "edge_bias" in options:
        options["edge_bias"] = doubles[-1]
    expected = attend(*doubles[:3], layout.to("cuda"), backend="grouped", **options)
    weight = torch.randn_like(expected)
    found = torch.autograd.grad((output.double() * weight).sum(), inputs)
    wanted = torch.autograd.grad((expected * weight).sum(), doubles)
    assert torch.allclose(output.double(), expected, atol=2e-3)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.double(), other, atol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("backend", ["varlen", "flex", "grouped", "padded", "auto"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
def test_cuda_back_ends_agree_in_half_precision(backend, causal, crossed):
    if causal and crossed:
        pytest.skip("causal attention is self-attention")
    layout = Layout.of([0, 5, 200, 0, 64, 1, 33, 0]).to("cuda")
    memory = Layout.of([3, 0, 130, 0, 64, 2, 1, 4]).to("cuda") if crossed else None
    source = memory or layout
    rows = [layout.tokens, source.tokens, source.tokens]
    inputs = [torch.randn(n, HEADS, 16, device="cuda").bfloat16() for n in rows]
    doubles = [each.double().requires_grad_() for each in inputs]
    inputs = [each.requires_grad_() for each in inputs]
    options = {"memory": memory, "causal": causal}
    output = attend(*inputs, layout, backend=backend, **options)
    expected = attend(*doubles, layout, backend="grouped", **options)
    weight = torch.randn_like(expected)
    found = torch.autograd.grad((output.double() * weight).sum(), inputs)
    wanted = torch.autograd.grad((expected * weight).sum(), doubles)
    assert torch.allclose(output.double(), expected, atol=3e-2)
    for one, other in zip(found, wanted, strict=True):
        assert one.isfinite().all()
        assert torch.allclose(one.double(), other, atol=0.1)


def test_many_edges_from_one_token_add_up_in_bfloat16():
    tokens = 1001
    edges = torch.stack([torch.zeros(1000, dtype=torch.int64), torch.arange(1, tokens)])
    layout = Layout.of([tokens], edges=edges)
    q = torch.zeros(tokens, 1, 8, dtype=torch.bfloat16)
    v = torch.ones(tokens, 1, 8, dtype=torch.bfloat16, requires_grad=True)
    attend(q, q, v, layout, edges="restrict", self_loops=False).float()[1:].sum().backward()
    # Each of the 1,000 sees the first token alone; brackets would come to 256.
    assert v.grad[0, 0, 0] == 1000
