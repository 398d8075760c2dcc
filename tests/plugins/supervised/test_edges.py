"""A probe of edges: which pairs it is asked for, and what it sees of them."""

from dataclasses import replace

import pytest
import torch

from polymodal import Layout, Tokens, TokenSpec, TransformerEncoder
from polymodal_supervised.edges import Edges

CODE = TokenSpec(
    vocabulary=12, kinds=("content", "node"), edges=True, structure=("variable",), max_tokens=64
)


def code_tokens(*graphs, seed=0):
    """Segments of (subwords, variables of the nodes, flows); node n stands for subword n."""
    lengths, kinds, names, edges = [], [], [], []
    for subwords, variables, flows in graphs:
        first = sum(lengths)
        place = first + subwords
        lengths.append(subwords + len(variables))
        kinds += [0] * subwords + [1] * len(variables)
        names += [-1] * subwords + variables
        edges += [(place + a, place + b) for a, b in flows]
        for n in range(min(subwords, len(variables))):
            edges += [(first + n, place + n), (place + n, first + n)]
    layout = Layout.of(
        lengths,
        kinds=torch.tensor(kinds, dtype=torch.int64),
        channels={"variable": torch.tensor(names, dtype=torch.int64)},
        edges=torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
    )
    generator = torch.Generator().manual_seed(seed)
    return Tokens(layout, ids=torch.randint(12, (layout.tokens,), generator=generator))


def model_of(toys, **options):
    torch.manual_seed(0)
    encoder = TransformerEncoder(
        CODE, width=16, depth=1, heads=2, edges="guide", guided=["node"], averaged=["node"]
    )
    options = {"kind": "node", "group": "variable", **options}
    return toys.model(
        {"code": CODE},
        objective=lambda info: Edges(info, stream="code", **options),
        encoders={"code": encoder},
    )


def pairs_of(toys, model, tokens):
    joined, drawn, _ = model.objective("objective")._pairs(
        toys.step(model, toys.batch(code=tokens))
    )
    return joined.T.tolist(), drawn.T.tolist()


def test_pairs_are_of_one_variable_and_balanced(toys):
    # a a a b b a: 0 -> 1 -> 5 and 3 -> 4 of equal names, 3 -> 2 of two names
    tokens = code_tokens((6, [0, 0, 0, 1, 1, 0], [(0, 1), (1, 5), (3, 4), (3, 2)]))
    joined, drawn = pairs_of(toys, model_of(toys), tokens)
    assert joined == [[7, 6], [11, 7]]  # 3 -> 4 has no other of its name
    assert [anchor for anchor, _ in drawn] == [7, 11]
    assert drawn[0][1] == 8
    assert drawn[1][1] in {6, 8}
    found = toys.loss(model_of(toys), toys.batch(code=tokens))
    assert int(found.count) == 4


def test_without_a_group_every_joined_pair_counts(toys):
    tokens = code_tokens((4, [0, 1, 2, 3], [(0, 1), (1, 0), (1, 2)]), (2, [0, 0], [(0, 1)]))
    joined, drawn = pairs_of(toys, model_of(toys, group=None), tokens)
    assert joined == [[5, 4], [6, 5]]  # once, though 0 and 1 are joined both ways
    assert drawn[0] == [5, 7]
    assert drawn[1][1] in {4, 7}


def test_unseen_tokens_and_edges_change_nothing_but_the_question(toys):
    model = model_of(toys, unseen=True)
    read = []
    model.objective("objective").head.register_forward_pre_hook(
        lambda module, inputs: read.append(inputs[0].detach())
    )
    one = code_tokens((6, [0] * 6, [(0, 1), (1, 2), (4, 5)]))
    two = code_tokens((6, [0] * 6, [(0, 1), (1, 2), (3, 5), (4, 5)]))
    for tokens in (one, two):
        model.objective("objective")(toys.step(model, toys.batch(code=tokens)))
    shared = [0, 1]  # the pairs (1, 0) and (2, 1) come first in both
    assert torch.equal(read[0][shared], read[2][shared])
    model.objective("objective").unseen = False
    read.clear()
    for tokens in (one, two):
        model.objective("objective")(toys.step(model, toys.batch(code=tokens)))
    assert torch.equal(read[0][0], read[2][0])
    assert not torch.equal(read[0][-1], read[2][-1])


def test_a_token_that_none_leads_to_is_left_out_where_it_is_unseen(toys):
    tokens = code_tokens((2, [0, 0, 0], [(0, 1), (1, 2)]))  # node 2 stands for nothing
    assert pairs_of(toys, model_of(toys), tokens)[0] == [[4, 3]]
    assert pairs_of(toys, model_of(toys, unseen=True), tokens)[0] == []


def test_edges_are_learned(toys):
    graphs = [(8, [0] * 8, [(a, a + 1) for a in range(0, 8, 2)]) for _ in range(6)]
    tokens = code_tokens(*graphs)
    ids = tokens.ids.clone()
    for segment in range(6):
        ids[16 * segment : 16 * segment + 8] = torch.arange(8) // 2
    batch = toys.batch(code=tokens.with_rows(ids))
    first, last = toys.train(model_of(toys, unseen=True), batch)
    assert last < 0.5 * first


@pytest.mark.parametrize(
    "graphs", [[], [(0, [], [])], [(3, [], []), (0, [0], [])], [(2, [0, 0], [])]]
)
@pytest.mark.parametrize("unseen", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_nothing_to_ask_is_finite(toys, graphs, unseen, bare):
    tokens = code_tokens(*graphs)
    if bare:
        layout = replace(tokens.layout, edges=None, kinds=None, channels={})
        tokens = Tokens(layout, ids=tokens.ids)
    model = model_of(toys, unseen=unseen)
    found = toys.loss(model, toys.batch(code=tokens))
    assert int(found.count) == 0
    assert toys.gradients_are_finite(model, found)


def test_options_that_do_not_fit_are_refused(toys):
    with pytest.raises(ValueError, match="kind: the tokens of 'code' have no kind 'nodes'. Did"):
        model_of(toys, kind="nodes")
    with pytest.raises(ValueError, match="channel 'names'"):
        model_of(toys, group="names")
