from dataclasses import replace

import pytest
import torch

from polymodal import NO_TAPS, Layout, Taps, Tokens
from polymodal_masking.edges import MaskedEdges, edge_noise, joined, without_edges
from polymodal_masking.losses import scaled_cosine_error
from polymodal_masking.nodes import MaskedNodes, propagated


def masked(toys, kind, **options):
    return toys.model(
        {"graph": toys.GRAPH},
        objective=lambda info: kind(info, stream="graph", **options),
        encoders={"graph": toys.Convolving(toys.GRAPH)},
    )


def rings(toys, count=6, size=6):
    """Rings whose nodes have one feature vector a ring."""
    edges = [(g * size + i, g * size + (i + 1) % size) for g in range(count) for i in range(size)]
    tokens = toys.graph_tokens([size] * count, edges)
    colour = torch.randn(count, 4, generator=torch.Generator().manual_seed(2))
    return tokens.with_rows(colour[tokens.layout.segment])


def seen(model, step):
    found = []
    hook = model.encoder("graph").register_forward_pre_hook(
        lambda module, inputs: found.append(inputs[0])
    )
    loss = model.objective("objective")(step)
    hook.remove()
    return found[0], loss


def test_propagation_is_that_of_a_graph_convolution():
    edges = torch.tensor([[0, 1, 1, 2, 4], [1, 0, 2, 1, 3]])
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    into = torch.eye(5, dtype=torch.float64)  # target, source
    into[edges[1], edges[0]] = 1
    root = into.sum(dim=1).rsqrt()
    expected = (root[:, None] * into * root) @ rows.double()
    found = propagated(rows, Layout.of([3, 2], edges=edges))
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)


def test_masked_nodes_are_a_floor_of_the_share_and_a_lone_node_stays(toys):
    model = masked(toys, MaskedNodes, ratio=0.5)
    batch = toys.batch(graph=toys.graph_tokens([5, 1, 0, 4], [(0, 1)]))
    shown, found = seen(model, toys.step(model, batch))
    hidden = (shown.values == 0).all(dim=1)
    assert torch.bincount(shown.layout.segment[hidden], minlength=4).tolist() == [2, 0, 0, 2]
    assert found.count == 4 == model.objective("objective").count(toys.step(model, batch))


def test_a_share_of_hidden_nodes_gets_another_nodes_features(toys):
    model = masked(toys, MaskedNodes, ratio=0.5, replace=1.0)
    tokens = toys.graph_tokens([6, 6], [])
    shown, _ = seen(model, toys.step(model, toys.batch(graph=tokens)))
    for row in range(12):
        graph = tokens.values[row // 6 * 6 : row // 6 * 6 + 6]
        assert (graph == shown.values[row]).all(dim=1).any()
    # a share too small to catch any node leaves every hidden node with the token
    model = masked(toys, MaskedNodes, replace=1e-9)
    few, _ = seen(model, toys.step(model, toys.batch(graph=tokens)))
    assert (few.values == 0).all(dim=1).sum() == 6


@pytest.mark.parametrize("decoder", ["graph", "linear"])
@pytest.mark.parametrize("loss", ["cosine", "mse", "cross_entropy"])
def test_hidden_features_can_not_be_seen(toys, decoder, loss):
    model = masked(toys, MaskedNodes, decoder=decoder, loss=loss)
    objective, out = model.objective("objective"), []
    objective.head.register_forward_hook(lambda m, x, o: out.append(o.detach()))
    tokens = rings(toys, count=2)
    step = toys.step(model, toys.batch(graph=tokens))
    shown, _ = seen(model, step)
    hidden = (shown.values == 0).all(dim=1)
    other = torch.where(hidden[:, None], tokens.values + 3, tokens.values)
    objective(toys.step(model, toys.batch(graph=tokens.with_rows(other))))
    assert torch.equal(*out)
    assert hidden.sum() == 6


def test_remasking_hides_what_the_encoder_made_of_hidden_nodes(toys):
    model = masked(toys, MaskedNodes)
    objective, out = model.objective("objective"), []
    objective.head.register_forward_pre_hook(lambda m, x: out.append(x[0].detach()))
    # without edges nothing is left to read a hidden node from
    toys.loss(model, toys.batch(graph=toys.graph_tokens([4], [])))
    assert out[0].abs().sum() == 0


@pytest.mark.parametrize("decoder", ["graph", "linear"])
def test_masked_nodes_are_learned(toys, decoder):
    batch = toys.batch(graph=rings(toys))
    first, last = toys.train(masked(toys, MaskedNodes, decoder=decoder), batch)
    assert last < 0.4 * first


def test_one_hot_features_are_classified(toys):
    tokens = rings(toys)
    kind = torch.nn.functional.one_hot(tokens.layout.segment % 4, 4).float()
    model = masked(toys, MaskedNodes, loss="cross_entropy")
    batch = toys.batch(graph=tokens.with_rows(kind))
    first, last = toys.train(model, batch)
    assert last < 0.4 * first
    correct, count = toys.loss(model, batch).metrics["accuracy"]
    assert correct / count > 0.6  # a node between two hidden ones has nothing to go by


def test_noise_of_edges_is_the_same_both_ways_and_in_any_packing():
    noise = torch.rand(6, generator=torch.Generator().manual_seed(0))
    edges = torch.tensor([[0, 2, 1], [2, 0, 4]])
    ends = edges.sort(dim=0).values
    drawn = edge_noise(noise, ends, "a")
    assert drawn[0] == drawn[1] != drawn[2]
    moved = edge_noise(torch.cat([torch.rand(3), noise]), ends + 3, "a")
    assert torch.equal(moved, drawn)
    assert not torch.equal(edge_noise(noise, ends, "b"), drawn)
    many = torch.rand(4000, generator=torch.Generator().manual_seed(1))
    spread = edge_noise(many, torch.arange(4000).reshape(2, 2000), "a")
    assert spread.min() >= 0
    assert spread.max() < 1
    assert abs(spread.mean() - 0.5) < 0.03


def test_joined_pairs_are_found():
    edges = torch.tensor([[0, 1, 3], [1, 2, 0]])
    pairs = torch.tensor([[0, 1, 2, 3, 3], [1, 0, 2, 0, 3]])
    assert joined(pairs, edges, 4).tolist() == [True, False, False, True, False]
    assert joined(pairs, edges[:, :0], 4).tolist() == [False] * 5


def test_kinds_and_values_leave_with_their_edges():
    layout = Layout.of(
        [3],
        edges=torch.tensor([[0, 1, 2], [1, 2, 0]]),
        edge_kinds=torch.tensor([4, 5, 6]),
        edge_values=torch.tensor([[0.4], [0.5], [0.6]]),
    )
    left = without_edges(layout, torch.tensor([False, True, False]))
    assert left.edges.tolist() == [[0, 2], [1, 0]]
    assert left.edge_kinds.tolist() == [4, 6]
    assert left.edge_values.flatten().tolist() == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize("undirected", [True, False])
def test_hidden_edges_do_not_reach_the_encoder(toys, undirected):
    model = masked(toys, MaskedEdges, ratio=0.4, undirected=undirected)
    tokens = rings(toys, count=8)
    step = toys.step(model, toys.batch(graph=tokens))
    shown, found = seen(model, step)
    _, held, drawn, counted = model.objective("objective")._draw(step)
    left = {tuple(e) for e in shown.layout.edges.T.tolist()}
    every = {tuple(e) for e in tokens.layout.edges.T.tolist()}
    for a, b in held.T.tolist():
        assert (a, b) in every
        assert (a, b) not in left
        assert not undirected or ((b, a) not in left and a < b)
    assert len(left) + held.shape[1] * (2 if undirected else 1) == len(every)
    assert 0.2 < 1 - len(left) / len(every) < 0.6
    for (a, b), good in zip(drawn.T.tolist(), counted.tolist(), strict=True):
        assert a // 6 == b // 6  # in one graph
        assert good == (a != b and (a, b) not in every)
    assert int(found.count) == held.shape[1] + int(counted.sum())
    assert int(model.objective("objective").count(step)) == int(found.count)


@pytest.mark.parametrize("score", ["dot", "mlp"])
def test_masked_edges_are_learned(toys, score):
    tokens = rings(toys, count=8)
    # opposite nodes look alike, so that neighbours can be told from others by their features
    angle = tokens.layout.within * (2 * torch.pi / 6)
    values = torch.stack([angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()], dim=1)
    batch = toys.batch(graph=tokens.with_rows(values))
    model = masked(toys, MaskedEdges, ratio=0.3, score=score)
    first, last = toys.train(model, batch)
    assert last < 0.8 * first
    above, count = toys.loss(model, batch, number=999).metrics["auc"]
    assert above / count > 0.75


@pytest.mark.parametrize("kind", [MaskedNodes, MaskedEdges])
@pytest.mark.parametrize("lengths", [[], [0], [1, 0], [3]])
@pytest.mark.parametrize("bare", [True, False])
def test_graphs_without_nodes_or_edges_are_finite(toys, kind, lengths, bare):
    tokens = toys.graph_tokens(lengths, [])
    if bare:
        tokens = Tokens(replace(tokens.layout, edges=None), values=tokens.values)
    model = masked(toys, kind)
    found = toys.loss(model, toys.batch(graph=tokens))
    assert toys.gradients_are_finite(model, found)
    assert all(p.grad is not None for p in model.objective("objective").parameters())


@pytest.mark.parametrize("kind", [MaskedNodes, MaskedEdges])
def test_streams_without_edges_are_refused(toys, kind):
    with pytest.raises(ValueError, match="edges"):
        kind(toys.info(graph=8), stream="graph")
    with pytest.raises(ValueError, match="ratio"):
        masked(toys, kind, ratio=0.0)


def deep(toys, **options):
    """A model of two rounds of messages, whose results can be tapped."""

    class Deep(toys.Convolving):
        def contextualize(self, encoded, *, taps=NO_TAPS):
            first = super().contextualize(encoded)
            second = super().contextualize(first)
            found = [first.vectors, second.vectors]
            return replace(second, hidden={tap: found[tap] for tap in taps.hidden})

    return toys.model(
        {"graph": toys.GRAPH},
        objective=lambda info: MaskedEdges(info, stream="graph", **options),
        encoders={"graph": Deep(toys.GRAPH)},
    )


@pytest.mark.parametrize("score", ["mlp", "dot"])
def test_s2gae_compares_every_layer_of_one_end_with_every_layer_of_the_other(toys, score):
    model = deep(toys, layers=[0, -1], score=score, true_negatives=False)
    objective, batch = model.objective("objective"), toys.batch(graph=rings(toys))
    step = toys.step(model, batch)
    shown, found = seen(model, step)
    _, held, drawn, counted = objective._draw(step)
    assert counted.all()  # edges and loops may be drawn
    first, second = tapped(model, shown)

    def scores(pairs):
        u, v = pairs
        ends = [(one, other) for one in (first, second) for other in (first, second)]
        product = torch.cat([one[u] * other[v] for one, other in ends], dim=1)
        return product.sum(dim=1) if score == "dot" else objective.score.head(product)[:, 0]

    log_sigmoid = torch.nn.functional.logsigmoid
    wanted = -log_sigmoid(scores(held)).sum() - log_sigmoid(-scores(drawn))[counted].sum()
    torch.testing.assert_close(found.total, wanted, rtol=1e-4, atol=1e-4)


def tapped(model, tokens):
    hidden = model.encoder("graph")(tokens, taps=Taps(hidden=(0, 1))).hidden
    return hidden[0], hidden[1]


def test_layers_are_different_blocks(toys):
    for layers in ([], [1, 1]):
        with pytest.raises(ValueError, match="layers"):
            deep(toys, layers=layers)


def test_random_remasking_hides_shares_of_all_nodes_and_adds_the_losses(toys):
    model = masked(toys, MaskedNodes, remask="random", remasks=3, remask_ratio=0.5, alpha=3.0)
    objective, tokens = model.objective("objective"), rings(toys)
    with torch.no_grad():
        objective.remask_token += 7.0
    read = []
    objective.head.register_forward_pre_hook(lambda m, x: read.append(x[0].detach()))
    step = toys.step(model, toys.batch(graph=tokens))
    shown, found = seen(model, step)
    rows = objective._choose(step, tokens).hidden
    bridged = objective.bridge(model.encoder("graph")(shown).vectors)
    wanted, vectors = 0.0, []
    for number in range(3):
        noise = objective.context.noise(step, f"remask/{number}", None)
        rank = noise.reshape(6, 6).argsort(dim=1).argsort(dim=1).flatten()
        again = bridged.clone()
        again[rank < 3] = objective.remask_token
        vectors.append(propagated(again, tokens.layout)[rows])
        cosine = torch.nn.functional.cosine_similarity(
            objective.head(vectors[-1]), tokens.values[rows]
        )
        wanted = wanted + ((1 - cosine) ** 3).sum()
    torch.testing.assert_close(read[0], torch.cat(vectors))
    torch.testing.assert_close(found.total, wanted)
    assert found.count == len(rows) == 18


def test_the_latent_term_is_that_of_visible_nodes_against_the_whole_graph(toys):
    options = {"ratio": 0.4, "latent_hidden": 5}
    model = masked(toys, MaskedNodes, latent=0.5, **options)
    objective, tokens = model.objective("objective"), rings(toys, count=1, size=5)
    step = toys.step(model, toys.batch(graph=tokens))
    shown, found = seen(model, step)
    choice = objective._choose(step, tokens)
    assert len(choice.hidden) == 2
    target = objective.slow_projector(objective.slow_encoder(tokens).vectors[choice.visible])
    guess = objective.predictor(
        objective.projector(model.encoder("graph")(shown).vectors[choice.visible])
    )
    latent = (1 - torch.nn.functional.cosine_similarity(guess, target)).mean()
    mean = float(found.metrics["latent"][0]) / found.count
    assert mean == pytest.approx(latent.item(), abs=1e-6)
    plain = found.total - 0.5 * found.metrics["latent"][0]
    rest = (found.total / found.count - 0.5 * mean).item()
    assert rest == pytest.approx(plain.item() / found.count)
    found.total.backward()
    assert all(p.grad is None for p in objective.slow_encoder.parameters())
    slow = next(objective.slow_encoder.parameters())
    student = next(model.encoder("graph").parameters())
    with torch.no_grad():
        student += 1
    before = slow.clone()
    objective.after_update(step)
    torch.testing.assert_close(slow, before.lerp(student.detach(), 0.004))


def test_scaled_cosine_errors_have_the_worked_values():
    one = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    other = torch.tensor([[4.0, 3.0], [0.0, 1.0]])
    for alpha, wanted in ((1.0, 0.52), (2.0, 0.5008), (3.0, 0.500032)):
        found = scaled_cosine_error(one, other, alpha=alpha).mean()
        assert found.item() == pytest.approx(wanted, abs=1e-6)
    assert scaled_cosine_error(one, torch.zeros(2, 2)).tolist() == [1.0, 1.0]


def test_options_of_graphmae2_out_of_range_are_refused(toys):
    for options, text in [
        ({"remask": "random", "decoder": "linear"}, "remask: random"),
        ({"remask_ratio": 1.0}, "remask_ratio"),
        ({"remasks": 0}, "remasks"),
        ({"latent": -1.0}, "latent"),
    ]:
        with pytest.raises(ValueError, match=text):
            masked(toys, MaskedNodes, **options)
