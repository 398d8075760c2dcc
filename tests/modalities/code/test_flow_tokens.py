"""Text, code and data flow as one segment, by the sheet's layout."""

import pickle

import pytest
import torch

pytest.importorskip("tokenizers")
pytest.importorskip("tree_sitter")

from polymodal import TransformerEncoder, UnreadableError
from polymodal.packed.attention.scores import Guide, Rule
from polymodal_code.flow_tokens import COMPUTED_FROM, LINK, SUMMARY, DataFlowTokens
from polymodal_code.record import RecordReader

CODES = ["a = b", "total = first + second\nprint(total)", "for item in items:\n    use(item)"]
READ = RecordReader()


def fitted(**options):
    options = {"vocabulary_size": 280, "max_tokens": 64, "max_nodes": 16, "max_text": 16, **options}
    tokenizer = DataFlowTokens(**options)
    tokenizer.fit([READ({"code": code, "text": "adds numbers"}) for code in CODES])
    return tokenizer


def test_a_row_has_marks_subwords_and_nodes_in_their_places():
    tokenizer = fitted()
    tokens = tokenizer.encode([READ("a = b"), None, READ({"text": "adds numbers"})])
    layout = tokens.layout.validate()
    special = tokenizer.special
    text = len(tokenizer._engine.encode("adds numbers").ids)
    subwords = layout.lengths[0] - 4  # between begin and end, before two nodes
    assert layout.lengths == (subwords + 4, 0, text + 2)
    first = slice(0, layout.lengths[0])
    assert tokens.ids[first][0] == special["begin"]
    assert tokens.ids[first].tolist()[-3:] == [special["end"], *[special["unknown"]] * 2]
    assert layout.kinds[first].tolist() == [1, *[0] * subwords, 1, 2, 2]
    assert layout.positions[first, 0].tolist() == [*range(1, subwords + 3), 0, 0]
    assert layout.channels["variable"][first].tolist() == [*[-1] * (subwords + 2), 0, 1]
    assert tokenizer.decode(tokens) == [" a = b", "", "adds numbers"]


def test_the_attention_mask_has_the_cells_that_the_paper_sets():
    tokenizer = fitted(vocabulary_size=2000)
    # so many merges that each token is one subword: [begin] a = b [end], and two nodes
    layout = tokenizer.encode([READ("a = b")]).layout
    assert layout.lengths == (7,)
    for loops, cells in ((False, 34), (True, 36)):
        guide = Guide.of(layout, (2,), self_loops=loops, rule=Rule())
        seen = guide.seen(slice(0, 7), Rule())
        if guide.blind is not None:
            seen = seen & ~guide.blind.diag()
        assert seen.sum() == cells
    a, b = 5, 6
    edges = {(*pair, kind) for pair, kind in zip(
        map(tuple, layout.edges.T.tolist()), layout.edge_kinds.tolist(), strict=True)}  # fmt: skip
    assert edges == {
        (b, a, COMPUTED_FROM),
        (1, a, LINK), (a, 1, LINK), (3, b, LINK), (b, 3, LINK),
        (a, 0, SUMMARY), (a, 4, SUMMARY), (b, 0, SUMMARY), (b, 4, SUMMARY),
    }  # fmt: skip


def test_code_is_cut_before_nodes_and_a_cut_token_has_a_node_without_a_link():
    code = "a = b\nc = a\nlast_name = c"
    tokenizer = fitted(max_tokens=16, max_nodes=6, max_text=4)
    layout = tokenizer.encode([READ(code)]).layout
    assert layout.lengths == (16,)
    assert (layout.kinds == 2).sum() == 6
    linked = layout.edges[1][(layout.edge_kinds == LINK) & (layout.kinds[layout.edges[1]] == 2)]
    assert 0 < len(linked.unique()) < 6
    few = tokenizer.encode([READ({"code": code, "text": "many words for one so short a line"})])
    assert few.layout.lengths == (16,)
    assert (few.layout.kinds == 1).sum() == 3  # begin, and an end after text and after code


def test_without_nodes_there_is_code_alone_of_the_same_spec():
    plain, whole = fitted(max_nodes=0), fitted()
    assert plain.spec == whole.spec
    tokens = plain.encode([READ(code) for code in CODES])
    assert tokens.layout.edges.shape == (2, 0)
    assert not (tokens.layout.kinds == 2).any()


def test_a_node_starts_from_the_mean_of_its_subwords():
    tokenizer = fitted()
    encoder = TransformerEncoder(
        tokenizer.spec, width=16, depth=1, heads=2, edges="guide", guided=["node"],
        averaged=["node"], positions="none",
    )  # fmt: skip
    tokens = tokenizer.encode([READ(CODES[1])])
    layout = tokens.layout
    found = encoder.embed(tokens).vectors - encoder.stem.kinds(layout.kinds)
    words = encoder.stem.tokens(tokens.ids)
    for node in (layout.kinds == 2).nonzero()[:, 0].tolist():
        own = layout.edges[0][(layout.edges[1] == node) & (layout.edge_kinds == LINK)]
        assert len(own)
        assert torch.allclose(found[node], words[own].mean(dim=0), atol=1e-6)


def test_words_of_a_segment_are_numbered_on():
    layout = fitted().encode([READ({"code": "a = b", "text": "adds numbers"})] * 2).layout
    for word in layout.channels["word"].split(layout.lengths):
        assert word[0] == 0
        assert set(word.diff().tolist()) <= {0, 1}
        assert len(word.unique()) == 1 + 2 + 1 + 3 + 1 + 2  # marks, words, tokens and nodes


def test_it_is_saved_and_pickled_with_its_vocabulary():
    tokenizer, other = fitted(), DataFlowTokens(max_tokens=64, max_nodes=16, max_text=16)
    other.load_state(tokenizer.state())
    raws = [READ(code) for code in CODES]
    for copy in (other, pickle.loads(pickle.dumps(tokenizer))):
        assert torch.equal(copy.encode(raws).ids, tokenizer.encode(raws).ids)


def test_a_record_has_code_a_language_and_a_text():
    assert READ("x = 1\n") == {"code": "x = 1", "language": "python"}
    assert READ({"code": "x = 1;", "language": "Java", "text": None}) == {
        "code": "x = 1;", "language": "java",
    }  # fmt: skip
    assert RecordReader(language="go")({"text": "Add."}) == {"language": "go", "text": "Add."}
    with pytest.raises(UnreadableError, match="needs code or a text"):
        READ({"code": None, "text": None})


def test_what_can_not_be_used_is_refused():
    with pytest.raises(UnreadableError, match="language 'jave'. Did you mean 'java'"):
        fitted().check(READ({"code": "x", "language": "jave"}))
    with pytest.raises(ValueError, match="max_tokens must leave room"):
        DataFlowTokens(max_tokens=20)
    with pytest.raises(ValueError, match="0 or more"):
        DataFlowTokens(max_nodes=-1)
