import math
import warnings

import numpy as np
import pytest
import torch

from polymodal import Layout, Taps, Tokens, TokenSpec

pytest.importorskip("torch_geometric")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch_geometric.data import Batch
    from torch_geometric.nn import (
        GATConv,
        GCNConv,
        GINConv,
        GINEConv,
        GPSConv,
        SAGEConv,
        global_max_pool,
        global_mean_pool,
    )

from polymodal_graph.graph import Graph, to_pyg
from polymodal_graph.network import GraphNetwork
from polymodal_graph.nodes import GraphNodes
from polymodal_graph.transformer import GraphTransformer

LAYERS = ["gin", "gcn", "gat", "sage", "gps"]
PLAIN = GraphNodes(features=3)
KINDS = GraphNodes(features=3, edge_kinds=4, edge_features=1)


def graph(nodes, edges, seed):
    generator = np.random.default_rng(seed)
    return Graph(
        generator.normal(size=(nodes, 3)).astype(np.float32),
        generator.integers(0, max(nodes, 1), size=(2, edges)),
        generator.integers(0, 4, size=edges),
        generator.normal(size=(edges, 1)).astype(np.float32),
    )


GRAPHS = [graph(4, 7, 0), graph(1, 0, 1), graph(6, 12, 2), graph(3, 0, 3)]


def network(tokenizer=KINDS, **options):
    torch.manual_seed(0)
    options = {"width": 8, "depth": 2, "heads": 2, **options}
    return GraphNetwork(tokenizer.spec, **options).eval()


def reference(layer, linked):
    """The layer made anew, by PyTorch Geometric alone, with our options."""
    perceptron = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8)
    )
    gin = (GINEConv if linked else GINConv)(perceptron, train_eps=True)
    if layer == "gps":
        return GPSConv(8, gin, heads=2, norm="layer_norm", norm_kwargs={"mode": "node"})
    return {
        "gin": gin,
        "gcn": GCNConv(8, 8),
        "gat": GATConv(8, 4, heads=2, edge_dim=8 if linked else None),
        "sage": SAGEConv(8, 8),
    }[layer]


@pytest.mark.parametrize("tokenizer", [PLAIN, KINDS], ids=["plain", "kinds"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_network_is_pytorch_geometrics_layers_on_its_own_batch(layer, tokenizer):
    model = network(tokenizer, layer=layer)
    batch = Batch.from_data_list([to_pyg(each) for each in GRAPHS])
    linked = tokenizer is KINDS and layer in ("gin", "gat", "gps")
    x = batch.x @ model.stem.weight.T + model.stem.bias
    more = {}
    if linked:
        values = batch.edge_attr @ model.links.values.weight.T + model.links.values.bias
        more["edge_attr"] = model.links.kinds.weight[batch.edge_type] + values
    for block in model.blocks:
        conv = reference(layer, linked).eval()
        conv.load_state_dict(block.conv.state_dict())
        if layer == "gps":
            x = conv(x, batch.edge_index, batch.batch, **more)
        else:
            x = x + block.norm(conv(x, batch.edge_index, **more)).relu()
    encoded = model(tokenizer.encode(GRAPHS))
    assert torch.allclose(encoded.vectors, x, atol=1e-5)
    assert torch.allclose(encoded.pooled, global_mean_pool(x, batch.batch), atol=1e-5)
    strongest = network(tokenizer, layer=layer, pool="max")(tokenizer.encode(GRAPHS))
    assert torch.allclose(strongest.pooled, global_max_pool(x, batch.batch), atol=1e-5)


def test_a_linear_last_layer_is_the_bare_convolution():
    """The stack of CCA-SSG and BGRL: convolutions with PReLU between, no residual."""
    model = network(
        PLAIN, layer="gcn", norm="none", activation="prelu", linear_last=True, residual=False,
        dropout=0.5,
    ).train()  # fmt: skip
    model.blocks[0].dropout.p = 0.0
    batch = Batch.from_data_list([to_pyg(each) for each in GRAPHS])
    x = batch.x @ model.stem.weight.T + model.stem.bias
    first, second = (GCNConv(8, 8) for _ in range(2))
    first.load_state_dict(model.blocks[0].conv.state_dict())
    second.load_state_dict(model.blocks[1].conv.state_dict())
    x = torch.nn.functional.prelu(
        first(x, batch.edge_index), model.blocks[0].activation.weight.detach()
    )
    found = model(PLAIN.encode(GRAPHS)).vectors
    assert torch.allclose(found, second(x, batch.edge_index), atol=1e-5)
    assert (found < 0).any()


def encoders():
    options = [{"layer": layer, "norm": norm} for layer in LAYERS for norm in ("layer", "graph")]
    return [*options, {"layer": "gin", "norm": "none", "jumping": "cat"}, None]


def build(options, tokenizer=KINDS):
    if options is None:
        torch.manual_seed(0)
        return GraphTransformer(tokenizer.spec, width=8, depth=2, heads=2).eval()
    return network(tokenizer, **options)


@pytest.mark.parametrize("options", encoders())
def test_every_graph_gives_what_it_gives_alone(options):
    model = build(options)
    raws = [None, *GRAPHS, None]
    together = model(KINDS.encode(raws))
    assert together.vectors.isfinite().all()
    for segment, raw in enumerate(raws):
        alone = model(KINDS.encode([raw]))
        picked = together.select([segment])
        assert torch.allclose(picked.vectors, alone.vectors, atol=1e-5)
        assert torch.allclose(picked.pooled, alone.pooled, atol=1e-5)
    assert not together.pooled[0].any()


@pytest.mark.parametrize("options", encoders())
def test_changing_one_graph_changes_no_other(options):
    model = build(options)
    tokens = KINDS.encode(GRAPHS)
    values = tokens.values.clone()
    values[:4] += 10
    before, after = model(tokens).vectors, model(tokens.with_rows(values)).vectors
    assert torch.equal(before[4:], after[4:])
    assert not torch.allclose(before[:4], after[:4])


@pytest.mark.parametrize("options", encoders())
@pytest.mark.parametrize("raws", [[], [None, None], [GRAPHS[1]], [None, GRAPHS[0], None]])
def test_no_nodes_and_no_edges_pass_forward_and_backward(options, raws):
    model = build(options).train()
    encoded = model(KINDS.encode(raws))
    assert encoded.pooled.shape == (len(raws), 8)
    (encoded.vectors.square().sum() + encoded.pooled.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not any(raws):
            assert not parameter.grad.any(), name


@pytest.mark.parametrize("options", encoders())
def test_tokens_without_any_edges_are_graphs_without_edges(options):
    model = build(options)
    tokens = KINDS.encode([graph(3, 0, 5)])
    bare = Tokens(Layout.of([3]), values=tokens.values)
    assert torch.allclose(model(bare).vectors, model(tokens).vectors, atol=1e-6)


@pytest.mark.parametrize("options", encoders())
def test_the_order_of_nodes_means_nothing(options):
    model = build(options)
    raw = GRAPHS[2]
    order = np.array([3, 0, 5, 1, 4, 2])
    turned = Graph(raw.nodes[order], np.argsort(order)[raw.edges], raw.edge_kinds, raw.edge_values)
    before, after = model(KINDS.encode([raw])), model(KINDS.encode([turned]))
    assert torch.allclose(before.vectors[order], after.vectors, atol=1e-5)
    assert torch.allclose(before.pooled, after.pooled, atol=1e-5)


@pytest.mark.parametrize("options", encoders())
def test_edges_and_their_kinds_matter_where_a_layer_takes_them(options):
    model = build(options)
    raw = GRAPHS[0]
    if options is None:  # the bias of an edge starts at about nothing
        torch.nn.init.normal_(model.trunk.edge_kind_bias.weight, std=3)
    other = Graph(raw.nodes, raw.edges, (raw.edge_kinds + 1) % 4, raw.edge_values)
    fewer = Graph(raw.nodes, raw.edges[:, :3], raw.edge_kinds[:3], raw.edge_values[:3])
    found, kinds, edges = (model(KINDS.encode([each])).vectors for each in (raw, other, fewer))
    assert not torch.allclose(found, edges, atol=1e-4)
    blind = options is not None and options["layer"] in ("gcn", "sage")
    assert torch.equal(found, kinds) == blind


def test_pools():
    tokens = KINDS.encode([GRAPHS[0], None, GRAPHS[2]])
    encoded = {pool: network(pool=pool)(tokens) for pool in ("mean", "sum", "max", "first")}
    vectors = encoded["mean"].vectors
    assert torch.allclose(encoded["sum"].pooled[0], vectors[:4].sum(dim=0), atol=1e-6)
    assert torch.equal(encoded["max"].pooled[2], vectors[4:].amax(dim=0))
    assert torch.equal(encoded["first"].pooled[[0, 2]], vectors[[0, 4]])
    for pool in encoded.values():
        assert not pool.pooled[1].any()


def test_jumping_knowledge_gathers_the_layers():
    tokens = KINDS.encode(GRAPHS)
    taps = Taps(hidden=(0, 1))
    for jumping, gather in {
        "last": lambda a, b: b, "sum": lambda a, b: a + b, "max": torch.maximum,
    }.items():  # fmt: skip
        encoded = network(jumping=jumping)(tokens, taps=taps)
        assert torch.equal(encoded.vectors, gather(encoded.hidden[0], encoded.hidden[1]))
    model = network(jumping="cat")
    encoded = model(tokens, taps=taps)
    both = torch.cat([encoded.hidden[0], encoded.hidden[1]], dim=1)
    assert torch.allclose(encoded.vectors, model.mixer(both))


@pytest.mark.parametrize("build", [GraphNetwork, GraphTransformer])
def test_node_ids_have_a_table_that_scores_them(build):
    tokenizer = GraphNodes(vocabulary=5)
    model = build(tokenizer.spec, width=64, depth=1, heads=2)
    raw = Graph(np.array([4, 0]), np.array([[0], [1]]))
    encoded = model(tokenizer.encode([raw]))
    assert model.unembed(encoded.vectors).shape == (2, 6)
    table = model.embedding(torch.arange(6))
    best = model.unembed(table).argmax(dim=1)
    assert torch.equal(best, (table @ table.T).argmax(dim=1))
    # Guessing costs about ln 6, as it should before any training.
    rows = torch.nn.functional.normalize(torch.randn(200, model.width)) * model.width**0.5
    loss = torch.nn.functional.cross_entropy(model.unembed(rows), torch.randint(6, (200,)))
    assert loss < 1.5 * math.log(6)
    values = build(PLAIN.spec, width=64, depth=1, heads=2)
    assert values.unembed(encoded.vectors) is None
    with pytest.raises(ValueError, match="table of ids"):
        values.embedding(torch.arange(2))


def test_a_few_steps_teach_a_network_to_count_edges():
    graphs = [graph(5, 2 + 6 * (i % 2), i) for i in range(16)]
    target = torch.tensor([i % 2 for i in range(16)])
    tokens = KINDS.encode(graphs)
    model = network(pool="sum").train()
    head = torch.nn.Linear(8, 2)
    optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.01)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(head(model(tokens).pooled), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "gen"}, "layer must be"),
        ({"layer": "gat", "heads": 3}, "heads must divide"),
        ({"norm": "batch"}, "norm must be"),
        ({"activation": "tanh"}, "activation must be"),
        ({"layer": "gps", "linear_last": True}, "gps has its own order"),
        ({"jumping": "lstm"}, "jumping must be"),
        ({"pool": "median"}, "pool must be"),
        ({"depth": 0}, "depth"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_tokens_without_edges_and_taps_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="takes tokens with edges"):
        GraphNetwork(TokenSpec(features=3))
    with pytest.raises(ValueError, match="no attention"):
        network()(KINDS.encode(GRAPHS), taps=Taps(attention=(0,)))
    with pytest.raises(ValueError, match="no layer 5"):
        network()(KINDS.encode(GRAPHS), taps=Taps(hidden=(5,)))
