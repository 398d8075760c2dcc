"""Hidden neighbours: who is drawn, what the encoder sees, and what it costs."""

from dataclasses import replace

import pytest
import torch

from polymodal import Layout, Tokens, TokenSpec, TransformerEncoder
from polymodal_masking.neighbours import MaskedNeighbours
from polymodal_masking.pairs import PairScore, draw_others, pair_loss

CODE = TokenSpec(vocabulary=12, kinds=("content", "node"), edges=True)


def code_tokens(*graphs, seed=0):
    """Segments of (subwords, nodes, flows between nodes); node n stands for subword n."""
    lengths, kinds, edges = [], [], []
    for subwords, nodes, flows in graphs:
        first = sum(lengths)
        lengths.append(subwords + nodes)
        kinds += [0] * subwords + [1] * nodes
        place = first + subwords
        edges += [(place + a, place + b) for a, b in flows]
        edges += [
            pair for n in range(nodes) for pair in ((first + n, place + n), (place + n, first + n))
        ]
    layout = Layout.of(
        lengths,
        kinds=torch.tensor(kinds, dtype=torch.int64),
        edges=torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
    )
    generator = torch.Generator().manual_seed(seed)
    return Tokens(layout, ids=torch.randint(12, (layout.tokens,), generator=generator))


def model_of(toys, **options):
    torch.manual_seed(0)
    encoder = TransformerEncoder(
        CODE, width=16, depth=1, heads=2, edges="guide", guided=["node"], averaged=["node"]
    )
    return toys.model(
        {"code": CODE},
        objective=lambda info: MaskedNeighbours(info, stream="code", **options),
        encoders={"code": encoder},
    )


CHAINS = code_tokens(
    (12, 10, [(i, i + 1) for i in range(9)]), (0, 0, []), (3, 1, []), (8, 6, [(0, 5), (1, 5)])
)


def drawn(toys, model, tokens, **options):
    step = toys.step(model, toys.batch(code=tokens), **options)
    return model.objective("objective")._draw(step), step


def test_the_loss_is_that_of_balanced_pairs():
    found = pair_loss(torch.tensor([2.0]), torch.tensor([-1.0]), torch.tensor([True]))
    assert found.total / found.count == pytest.approx(0.2200949, abs=1e-6)
    flat = pair_loss(torch.zeros(3), torch.zeros(3), torch.tensor([True, False, True]))
    assert flat.count == 5
    assert flat.total / flat.count == pytest.approx(0.693147, abs=1e-6)


def test_a_pair_scores_by_its_dot_product():
    vectors = torch.tensor([[1.0, 0, 1], [0.5, 0.5, 0.5], [1, 1, -1], [0, 2, 0]])
    scores = PairScore(3, "dot")([vectors], torch.tensor([[0, 0, 0], [1, 2, 3]]))
    assert scores.sigmoid().tolist() == pytest.approx([0.731059, 0.5, 0.5], abs=1e-6)


def test_others_are_drawn_evenly_from_those_that_are_no_partners():
    group = torch.tensor([0, 0, -1, 0, 0, 1, 1, 0])
    partners = torch.tensor([[0, 0, 5, 2, 2], [3, 3, 6, 1, 7]])
    sought = torch.tensor([0, 0, 0, 0, 0, 1, 1, 0])
    allowed = {0: {1, 4, 7}, 1: {0, 3, 4, 7}, 2: {0, 3, 4}, 5: set(), 7: {0, 1, 3, 4}}
    for anchor, wanted in allowed.items():
        noise = torch.arange(0, 1, 1 / 60)
        anchors = torch.full((60,), anchor)
        rows, found = draw_others(noise, anchors, sought, group, partners)
        assert found.tolist() == [bool(wanted)] * 60
        if wanted:
            assert {*rows.tolist()} == wanted
            assert {(rows == row).sum().item() for row in wanted} == {60 // len(wanted)}


@pytest.mark.parametrize("partner", ["node", "content"])
def test_drawn_tokens_lose_their_edges_and_each_pair_has_an_equal(toys, partner):
    model = model_of(toys, partner=partner, ratio=0.3)
    for number in range(5):
        found, step = drawn(toys, model, CHAINS, number=number)
        layout = CHAINS.layout
        kinds = layout.kinds
        every = {tuple(e) for e in layout.edges.T.tolist()}
        hidden = {tuple(e) for e in layout.edges[:, found.hidden].T.tolist()}
        true, other = found.true.T.tolist(), found.other.T.tolist()
        assert {frozenset(pair) for pair in true} == {frozenset(edge) for edge in hidden}
        assert len(true) == len({frozenset(pair) for pair in true})
        for (a, b), (same, c), counts in zip(true, other, found.counted.tolist(), strict=True):
            assert kinds[a] == 1 and kinds[b] == (partner == "node")
            assert same == a
            if counts:
                assert kinds[c] == kinds[b] and c != a
                assert layout.segment[c] == layout.segment[a]
                assert (a, c) not in every and (c, a) not in every
        # three of ten nodes, two of six, one of one; nothing is drawn from what has none
        anchors = found.true[0].unique()
        if partner == "content":
            assert torch.bincount(layout.segment[anchors], minlength=4).tolist() == [3, 0, 1, 2]
            assert found.counted.all()
        loss = model.objective("objective")(step)
        assert int(loss.count) == len(true) + int(found.counted.sum())
        assert int(model.objective("objective").count(step)) == int(loss.count)


def test_hidden_links_leave_the_input_vector_too(toys):
    outputs = {}
    for hide in (True, False):
        model = model_of(toys, partner="content", ratio=0.3, hide_input=hide)
        found, step = drawn(toys, model, CHAINS)
        scored = []
        model.objective("objective").score.register_forward_pre_hook(
            lambda module, inputs, scored=scored: scored.append(inputs[0][0].detach())
        )
        model.objective("objective")(step)
        node = found.true[0, 0]
        # the subword's id, all else equal: it reaches a node alone along edges
        other = CHAINS.with_rows(CHAINS.ids.index_fill(0, found.true[1, :1], 3))
        model.objective("objective")(toys.step(model, toys.batch(code=other)))
        outputs[hide] = torch.equal(scored[0][node], scored[2][node])
    assert outputs == {True: True, False: False}


def test_gradients_stay_where_edges_lead(toys):
    tokens = code_tokens((6, 4, [(0, 1)]))
    tokens = tokens.with_rows(torch.arange(10) % 12)
    model = model_of(toys, ratio=0.25)
    for number in range(6):
        model.zero_grad()
        found = toys.loss(model, toys.batch(code=tokens), number=number)
        found.total.backward()
        gradient = model.encoder("code").stem.tokens.weight.grad
        reached = (
            set() if gradient is None else {*gradient.abs().sum(dim=1).nonzero()[:, 0].tolist()}
        )
        assert reached <= {0, 1, 2, 3}  # subwords 4 and 5 have no node
        assert bool(reached) == bool(int(found.count))


def test_neighbours_are_learned(toys):
    graphs = [(12, 8, [(a, a + 1) for a in range(0, 8, 2)]) for _ in range(6)]
    tokens = code_tokens(*graphs)
    ids = tokens.ids.clone()
    for segment in range(6):  # what a node flows to has the same name
        ids[20 * segment : 20 * segment + 8] = torch.arange(8) // 2
    batch = toys.batch(code=tokens.with_rows(ids))
    model = model_of(toys, ratio=0.3)
    first, last = toys.train(model, batch)
    assert last < 0.7 * first
    above, count = toys.loss(model, batch, number=999).metrics["auc"]
    assert above / count > 0.9


@pytest.mark.parametrize("graphs", [[], [(0, 0, [])], [(3, 0, []), (0, 1, [])], [(1, 1, [])]])
@pytest.mark.parametrize("bare", [True, False])
def test_code_without_nodes_or_edges_is_finite(toys, graphs, bare):
    tokens = code_tokens(*graphs)
    if bare:
        tokens = Tokens(replace(tokens.layout, edges=None, kinds=None), ids=tokens.ids)
    for partner in ("node", "content"):
        model = model_of(toys, partner=partner)
        found = toys.loss(model, toys.batch(code=tokens))
        assert toys.gradients_are_finite(model, found)


def test_options_that_do_not_fit_are_refused(toys):
    with pytest.raises(ValueError, match="of: the tokens of 'code' have no kind 'nodes'. Did you"):
        model_of(toys, of="nodes")
    with pytest.raises(ValueError, match="ratio"):
        model_of(toys, ratio=1.0)
    with pytest.raises(ValueError, match="edges"):
        MaskedNeighbours(toys.info(code=8), stream="code")


def test_the_mean_of_the_product_starts_near_guessing_at_any_width():
    # The plain product of vectors of unit variance starts at hundreds at width 768.
    torch.manual_seed(0)
    encoder = TransformerEncoder(
        CODE, width=768, depth=1, heads=12, norm="post", edges="guide", guided=["node"],
        averaged=["node"], stem_norm=True,
    )  # fmt: skip
    with torch.no_grad():
        vectors = encoder(CHAINS).vectors
        pairs, others = (
            torch.tensor([[12, 13, 14], [13, 14, 15]]),
            torch.tensor([[12, 13], [18, 20]]),
        )
        start = {}
        for score in ("dot", "scaled", "mean"):
            scored = PairScore(768, score)
            found = pair_loss(scored([vectors], pairs[:, :2]), scored([vectors], others),
                              torch.ones(2, dtype=torch.bool))  # fmt: skip
            start[score] = float(found.total / found.count)
    assert start["mean"] == pytest.approx(0.693147, abs=0.1)
    assert start["dot"] > 50 > start["scaled"] > 1.5
