"""The packed transformer against torch's own layers, and what it promises beside."""

import copy

import pytest
import torch
from torch import nn

from polymodal.interfaces.encoder import NO_TAPS, Taps
from polymodal.nn.blocks import EPSILON, Mlp, Point
from polymodal.nn.transformer import Transformer
from polymodal.packed.layout import Layout
from polymodal.packed.tokens import Encoded
from polymodal.training.costs import Tally


def small(**options):
    torch.manual_seed(0)
    return Transformer(**({"width": 16, "depth": 2, "heads": 2} | options))


def copy_layer(block, layer):
    """Give a block the weights of one of torch's layers."""
    weights = {
        "attention.qkv.weight": layer.self_attn.in_proj_weight,
        "attention.qkv.bias": layer.self_attn.in_proj_bias,
        "attention.out.weight": layer.self_attn.out_proj.weight,
        "attention.out.bias": layer.self_attn.out_proj.bias,
        "mlp.up.weight": layer.linear1.weight,
        "mlp.up.bias": layer.linear1.bias,
        "mlp.down.weight": layer.linear2.weight,
        "mlp.down.bias": layer.linear2.bias,
        "attention_norm.weight": layer.norm1.weight,
        "attention_norm.bias": layer.norm1.bias,
    }
    if hasattr(layer, "multihead_attn"):
        cross = layer.multihead_attn
        width = cross.embed_dim
        weights |= {
            "cross_norm.weight": layer.norm2.weight,
            "cross_norm.bias": layer.norm2.bias,
            "cross_attention.query.weight": cross.in_proj_weight[:width],
            "cross_attention.query.bias": cross.in_proj_bias[:width],
            "cross_attention.key_value.weight": cross.in_proj_weight[width:],
            "cross_attention.key_value.bias": cross.in_proj_bias[width:],
            "cross_attention.out.weight": cross.out_proj.weight,
            "cross_attention.out.bias": cross.out_proj.bias,
            "mlp_norm.weight": layer.norm3.weight,
            "mlp_norm.bias": layer.norm3.bias,
        }
    else:
        weights |= {"mlp_norm.weight": layer.norm2.weight, "mlp_norm.bias": layer.norm2.bias}
    block.load_state_dict(weights)


def torch_options(norm):
    return {
        "d_model": 16, "nhead": 2, "dim_feedforward": 64, "dropout": 0.0, "activation": "gelu",
        "layer_norm_eps": EPSILON, "batch_first": True, "norm_first": norm == "pre",
    }  # fmt: skip


def shaken(layer):
    """Torch starts biases and norms at trivial values: make every parameter count."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_torch_s_encoder_layer_by_layer(norm, causal):
    model = small(norm=norm, causal=causal)
    layers = [shaken(nn.TransformerEncoderLayer(**torch_options(norm))) for _ in range(2)]
    for block, layer in zip(model.blocks, layers, strict=True):
        copy_layer(block, layer)
    x = torch.randn(3, 5, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else None
    expected = x
    for layer in layers:
        expected = layer(expected, src_mask=mask, is_causal=causal)
    if norm == "pre":
        expected = nn.functional.layer_norm(expected, (16,), eps=EPSILON)
    found = model(x.flatten(0, 1), Layout.of([5, 5, 5])).vectors
    assert torch.allclose(found, expected.flatten(0, 1), atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_with_a_memory_it_is_torch_s_decoder_layer(norm):
    model = small(depth=1, norm=norm, causal=True, cross_width=16)
    layer = shaken(nn.TransformerDecoderLayer(**torch_options(norm)))
    copy_layer(model.blocks[0], layer)
    x, m = torch.randn(2, 4, 16), torch.randn(2, 3, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    expected = layer(x, m, tgt_mask=mask, tgt_is_causal=True)
    if norm == "pre":
        expected = nn.functional.layer_norm(expected, (16,), eps=EPSILON)
    memory = Encoded.mean_pooled(Layout.of([3, 3]), m.flatten(0, 1))
    found = model(x.flatten(0, 1), Layout.of([4, 4]), memory=memory).vectors
    assert torch.allclose(found, expected.flatten(0, 1), atol=1e-5)


def test_a_packed_batch_is_its_samples_one_by_one():
    model = small(rotary_axes=1, activation="swiglu")
    lengths = [4, 0, 1, 7, 4]
    x = torch.randn(sum(lengths), 16)
    together = model(x, Layout.of(lengths)).vectors
    alone = [model(part, Layout.of([len(part)])).vectors for part in x.split(lengths)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_no_sample_leaks_into_another():
    model = small(rotary_axes=1)
    layout = Layout.of([3, 5, 4])
    x = torch.randn(12, 16)
    changed = x.clone()
    changed[3:8] = torch.randn(5, 16)
    before, after = model(x, layout).vectors, model(changed, layout).vectors
    assert torch.equal(before[:3], after[:3])
    assert torch.equal(before[8:], after[8:])


@pytest.mark.parametrize("lengths", [(), (0, 0), (1, 0)])
@pytest.mark.parametrize("memory_lengths", ["same", "none"])
def test_with_few_or_no_tokens_every_parameter_gets_a_finite_gradient(lengths, memory_lengths):
    model = small(
        cross_width=8, edges="bias", edge_kinds=2, edge_features=3, rotary_axes=1, drop_path=0.5,
        dropout=0.1, activation="swiglu",
    )  # fmt: skip
    memory_layout = Layout.of(lengths if memory_lengths == "same" else [0] * len(lengths))
    memory = Encoded.mean_pooled(memory_layout, torch.randn(memory_layout.tokens, 8))
    out = model(torch.randn(sum(lengths), 16), Layout.of(lengths), memory=memory)
    out.vectors.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_taps_give_what_each_block_puts_out():
    model = small()
    layout = Layout.of([2, 3])
    x = torch.randn(5, 16)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, out: seen.append(out[0]))
    out = model(x, layout, taps=Taps(hidden=(0, -1), attention=(1,)))
    assert torch.equal(out.hidden[0], seen[0])
    assert torch.equal(out.hidden[-1], seen[1])
    assert torch.equal(model.norm(out.hidden[-1]), out.vectors)
    assert [tuple(each.shape) for each in out.attention[1]] == [(2, 2, 2), (2, 3, 3)]
    assert torch.allclose(out.attention[1][1].sum(dim=-1), torch.ones(2, 3))
    with pytest.raises(ValueError, match="no block 2 to tap: there are 2, 0 to 1"):
        model(x, layout, taps=Taps(hidden=(2,)))


def test_rows_may_change_between_blocks():
    """Dropping every segment's last token after the first block, against two transformers."""
    model = small(rotary_axes=1, drop_path=0.5).eval()
    layout, x = Layout.of([3, 1, 0, 4]), torch.randn(8, 16)
    calls = []

    def shorten(number, vectors, layout):
        calls.append((number, layout.lengths))
        if number:
            return vectors, layout
        kept, rows = layout.kept(layout.within < layout.offsets.diff()[layout.segment] - 1, None)
        return vectors[rows], kept

    out = model(x, layout, between=shorten)
    assert calls == [(0, (3, 1, 0, 4)), (1, (2, 0, 0, 3))]
    assert out.layout.lengths == (2, 0, 0, 3)
    halves = [copy.deepcopy(model) for _ in range(2)]
    halves[0].blocks, halves[0].norm = model.blocks[:1], nn.Identity()
    halves[1].blocks = model.blocks[1:]
    vectors, shorter = shorten(0, halves[0](x, layout).vectors, layout)
    assert torch.allclose(out.vectors, halves[1](vectors, shorter).vectors, atol=1e-6)
    # In training drop path follows the segments, whose tokens have become fewer.
    model.train()(x, layout, between=shorten).vectors.sum().backward()


def test_points_are_where_they_are_said_to_be():
    class Double(nn.Module):
        def forward(self, vectors, layout):
            assert len(vectors) == layout.tokens
            return 2 * vectors

    model = small(depth=1)
    block = model.blocks[0]
    x, layout = torch.randn(5, 16), Layout.of([2, 3])

    def attention(x):
        return block.attention(block.attention_norm(x), around)[0]

    def mlp(x):
        return block.mlp(block.mlp_norm(x))

    from polymodal.nn.blocks import Surroundings

    around = Surroundings(layout)
    for place in ("before_attention", "after_attention", "after_mlp"):
        assert isinstance(getattr(block, place), Point)
        setattr(block, place, Double())
        y = 2 * x if place == "before_attention" else x
        y = y + attention(y) * (2 if place == "after_attention" else 1)
        y = y + mlp(y) * (2 if place == "after_mlp" else 1)
        assert torch.allclose(block(x, around)[0], y, atol=1e-6)
        setattr(block, place, Point())


def test_sub_modules_that_methods_replace_keep_their_names():
    names = dict(small(cross_width=8).named_modules())
    linears = ["attention.qkv", "attention.out", "cross_attention.query", "mlp.up", "mlp.down",
               "cross_attention.key_value", "cross_attention.out"]  # fmt: skip
    for name in linears:
        assert type(names[f"blocks.1.{name}"]) is nn.Linear
    for name in ["attention_norm", "cross_norm", "mlp_norm"]:
        assert type(names[f"blocks.1.{name}"]) is nn.LayerNorm


def test_drop_path_skips_whole_segments_and_keeps_the_mean():
    model = small(depth=2, drop_path=0.5)
    layout = Layout.of([3] * 200)
    torch.manual_seed(1)
    keep = model._keep(layout, torch.float32)
    assert (keep[0] == 1).all()  # the first block's share is 0
    last = keep[1]
    assert last.shape == (2, 200, 1)
    assert set(last.unique().tolist()) == {0.0, 2.0}
    assert (last.mean() - 1).abs() < 0.25
    assert model.eval()._keep(layout, torch.float32) is None


def test_dropped_branches_leave_a_segment_as_it_was():
    model = small(depth=1)
    block, layout = model.blocks[0], Layout.of([2, 2])
    from polymodal.nn.blocks import Surroundings

    x = torch.randn(4, 16)
    keep = torch.tensor([0.0, 0.0, 1.0, 1.0])[None, :, None].expand(2, 4, 1)
    out, _ = block(x, Surroundings(layout), keep)
    whole, _ = block(x, Surroundings(layout))
    assert torch.equal(out[:2], x[:2])
    assert torch.allclose(out[2:], whole[2:], atol=1e-6)


@pytest.mark.parametrize("policy", [True, "alternate", "selective"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointing_changes_no_gradient(policy, dropout):
    layout = Layout.of([3, 0, 4])
    x = torch.randn(7, 16)
    gradients = []
    for checkpointing in (False, policy):
        model = small(
            dropout=dropout, drop_path=dropout, gradient_checkpointing=checkpointing, depth=3
        )
        torch.manual_seed(3)
        model(x, layout, taps=Taps(attention=(0,))).vectors.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_each_way_of_checkpointing_keeps_what_it_says():
    layout = Layout.of([20, 20])
    x = torch.randn(40, 16, requires_grad=True)

    def widths(policy):
        """Return the values that blocks keep for the backward pass, by token and width."""
        model = small(depth=8, gradient_checkpointing=policy)
        model(x, layout)  # masks and angles are made once a layout
        with Tally() as tally:
            out = model(x, layout).vectors
            kept = tally.bytes / 4 / x.numel()
        out.sum().backward()
        return kept

    whole, every, second, selective = map(widths, (False, True, "alternate", "selective"))
    # A block keeps two sums and their norms, queries, keys, values, attention, and 4 widths each
    # before and after GELU. Selective drops norms, a sum and what GELU gave, and adds attention's
    # product.
    assert 8 * 16 <= whole < 8 * 17 and 8 <= every < 8 * 1.5
    assert abs(second - (whole + every) / 2) < 0.02 * whole
    assert 8 * 10 <= selective < 8 * 11


def test_edges_restrict_what_a_block_sees():
    model = small(depth=1, edges="restrict")
    layout = Layout.of([3], edges=torch.tensor([[0], [1]]))  # token 1 hears token 0
    x = torch.randn(3, 16, requires_grad=True)
    out = model(x, layout).vectors
    reached = torch.stack([torch.autograd.grad(out[i].square().sum(), x, retain_graph=True)[0]
                           .abs().sum(dim=1) > 0 for i in range(3)])  # fmt: skip
    assert reached.tolist() == [[True, False, False], [True, True, False], [False, False, True]]


@pytest.mark.parametrize("edges", ["restrict", "bias"])
def test_edge_kinds_and_values_bias_the_scores(edges):
    model = small(depth=1, edges=edges, edge_kinds=2, edge_features=1).eval()
    pairs = torch.tensor([[0, 1], [2, 2]])

    def maps(kinds, values):
        layout = Layout.of([3], edges=pairs, edge_kinds=torch.tensor(kinds),
                           edge_values=torch.tensor(values)[:, None])  # fmt: skip
        x = torch.zeros(3, 16)
        return model(x, layout, taps=Taps(attention=(0,))).attention[0][0][0, 2]

    with torch.no_grad():
        model.edge_kind_bias.weight[:] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        model.edge_value_bias.weight.fill_(2.0)
    expected = torch.tensor([1.0 + 2 * 0.5, 2 * -1.0, 0.0]).softmax(dim=0)
    assert torch.allclose(maps([1, 0], [0.5, -1.0]), expected, atol=1e-6)


def test_swiglu_is_a_gated_perceptron_of_as_many_parameters():
    mlp = Mlp(24, 4.0, "swiglu", 0.0)
    assert mlp.up.out_features == 2 * 64
    assert mlp.down.in_features == 64
    x = torch.randn(2, 24)
    gate, value = mlp.up(x)[:, :64], mlp.up(x)[:, 64:]
    assert torch.allclose(mlp(x), mlp.down(gate * gate.sigmoid() * value), atol=1e-6)


@pytest.mark.parametrize(("width", "spread"), [(768, 0.02), (192, 0.04)])
def test_initial_weights_are_timms_at_the_base_width_and_alike_at_others(width, spread):
    model = small(width=width, heads=4)
    weight = model.blocks[0].attention.qkv.weight
    assert abs(float(weight.detach().std()) - spread) < 0.002
    assert (model.blocks[0].mlp.up.bias == 0).all()


@pytest.mark.skipif(hasattr(Mlp.forward, "__wrapped__"), reason="shape checks refuse first")
def test_what_can_not_work_is_refused():
    with pytest.raises(ValueError, match="3 heads for 16"):
        small(heads=3)
    with pytest.raises(ValueError, match="drop_path must be"):
        small(drop_path=1.0)
    with pytest.raises(ValueError, match="norm must be one of pre, post, got 'rms'"):
        small(norm="rms")
    with pytest.raises(ValueError, match="depth must be"):
        small(depth=-1)
    with pytest.raises(ValueError, match="cross_rotary needs rotary_axes and a cross_width"):
        small(cross_rotary=True, rotary_axes=2)
    with pytest.raises(ValueError, match="true, false, alternate or selective, got 'half'"):
        small(gradient_checkpointing="half")
    with pytest.raises(ValueError, match="exactly if it has a cross_width"):
        small(cross_width=8)(torch.randn(1, 16), Layout.of([1]))


def edges_within(lengths, generator):
    """Return some pairs of tokens of each segment; none for short segments now and then."""
    pairs, first = [torch.zeros(2, 0, dtype=torch.int64)], 0
    for length in lengths:
        if length:
            count = int(torch.randint(0, 4, (), generator=generator))
            pairs.append(first + torch.randint(0, length, (2, count), generator=generator))
        first += length
    return torch.cat(pairs, dim=1)


@pytest.mark.slow
@pytest.mark.skipif(hasattr(Mlp.forward, "__wrapped__"), reason="shape checks can't be traced")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_checkpointing": True},
        {"causal": True, "norm": "post"},
        {"rotary_axes": 1, "drop_path": 0.5, "dropout": 0.1},
        {"edges": "bias", "edge_features": 1},
        {"edges": "restrict"},
        {"cross_width": 16, "rotary_axes": 1, "cross_rotary": True},
    ],
    ids=["checkpointed", "causal", "rotary", "bias", "restrict", "cross"],
)
def test_compiled_blocks_are_compiled_once_whatever_the_lengths(options):
    torch._dynamo.reset()
    compiled, plain = small(**options), small(**options)
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph

    compiled.compile_blocks(backend=counting)
    generator = torch.Generator().manual_seed(0)

    def drawn(most):
        return int(torch.randint(0, most, (), generator=generator))

    def check(lengths, memory_lengths, taps=NO_TAPS):
        layout = Layout.of(lengths)
        if "edges" in options:
            edges = edges_within(lengths, generator)
            values = torch.randn(edges.shape[1], 1, generator=generator)
            layout = Layout.of(lengths, edges=edges, edge_values=values)
        x = torch.randn(layout.tokens, 16, generator=generator)
        memory = None
        if "cross_width" in options:
            there = Layout.of(memory_lengths)
            memory = Encoded.mean_pooled(there, torch.randn(there.tokens, 16, generator=generator))
        results = []
        for model in (compiled, plain):
            torch.manual_seed(1)
            leaf = x.clone().requires_grad_()
            out = model(leaf, layout, memory=memory, taps=taps).vectors
            out.square().sum().backward()
            results.append((out, leaf.grad))
        for one, other in zip(*results, strict=True):
            assert torch.allclose(one, other, atol=1e-5)

    check([1, 1], [1, 1])  # as many tokens as heads, and as the memory has
    first = len(graphs)
    assert 0 < first <= 8  # both blocks have the same
    for lengths in [(), (0, 0), (1,), (0, 1), (16,), (8, 8)]:
        check(lengths, lengths[::-1])
    for _ in range(50):
        count = 1 + drawn(5)
        check([drawn(9) for _ in range(count)], [drawn(9) for _ in range(count)])
    check([3, 5], [2, 6], Taps(attention=(0,)))
    assert len(graphs) == first
