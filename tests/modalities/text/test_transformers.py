import json
import pickle
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from polymodal import DataError, Layout, Taps, Tokens, TokenSpec, UnreadableError  # noqa: E402
from polymodal_text.byte_pairs import learn_byte_pairs  # noqa: E402
from polymodal_text.transformers_encoder import TransformersEncoder  # noqa: E402
from polymodal_text.transformers_tokenizer import TransformersTokenizer  # noqa: E402

SPEC = TokenSpec(
    vocabulary=60, extent=(20,), max_tokens=20, special={"pad": 0, "mask": 2, "begin": 3, "end": 4}
)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
KINDS = {
    "bert": {},
    "roberta": {},  # places count from the padding's id
    "distilbert": {},
    "albert": {"embedding_size": 16},  # a table of another width, one block used twice
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"intermediate_size": 64},  # rotary, local attention
    "t5": {"d_kv": 16, "d_ff": 64},  # an encoder-decoder with relative places
    "bart": {"decoder_layers": 1},
    "gpt2": {},
    "llama": {"intermediate_size": 64, "num_key_value_heads": 2},
}
LENGTHS = (5, 0, 9, 1, 13)


def encoder(model, **options):
    options["config"] = {**SMALL, **KINDS.get(model, {}), **options.get("config", {})}
    torch.manual_seed(0)
    return TransformersEncoder(SPEC, model=model, **options)


def tokens(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (sum(lengths),), generator=generator)
    return Tokens(Layout.of(lengths), ids=ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer with RoBERTa's marks over byte pairs, and a trained masked language model."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    path = tmp_path_factory.mktemp("model")
    engine = learn_byte_pairs(["a photo of a cat", "the cat and the dog"] * 3, 290)
    engine.add_special_tokens([AddedToken("<mask>", special=True)])
    engine.post_processor = TemplateProcessing(
        single="[BEGIN] $A [END]", special_tokens=[("[BEGIN]", 3), ("[END]", 4)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=engine, pad_token="[PAD]", unk_token="[UNK]", mask_token="<mask>",
        cls_token="[BEGIN]", sep_token="[END]",
    ).save_pretrained(path)  # fmt: skip
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=300, max_position_embeddings=24, **SMALL)
    transformers.BertForMaskedLM(config).save_pretrained(path)
    return str(path)


TEXTS = ["a photo of a cat", "naïve 東京!", "the <mask> dog and the cat and the dog and the cat"]


def test_ids_are_the_librarys_without_padding(folder):
    library = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [TEXTS[0], TEXTS[1], "word " * 40]
    found = TransformersTokenizer(model=folder, max_tokens=12).encode(texts)
    for segment, text in enumerate(texts):
        wanted = library(text, truncation=True, max_length=12)["input_ids"]
        assert found.select([segment]).ids.tolist() == wanted
    assert found.layout.lengths[2] == 12


def test_special_tokens_have_a_kind_and_words_a_number(folder):
    found = TransformersTokenizer(model=folder).encode(["a façade", None, "a"])
    words = found.layout.channels["word"]
    first = found.layout.lengths[0]
    assert words[0] == 0 and words[first - 1] == words[:first].max() == 3  # begin a façade end
    assert first > 4  # so that a word has several tokens
    assert words[:first].diff().min() >= 0
    assert words[first:].tolist() == [0, 1, 2]
    assert found.layout.kinds[:first].tolist() == [1, *[0] * (first - 2), 1]


def test_absent_and_blank_text_has_no_tokens_not_even_special_ones(folder):
    tokenizer = TransformersTokenizer(model=folder)
    assert tokenizer.encode([None, "", " \n", "a"]).layout.lengths == (0, 0, 0, 3)
    assert tokenizer.encode([]).layout.segments == 0
    with pytest.raises(UnreadableError, match="takes strings"):
        tokenizer.check(3)


def test_text_that_is_normalised_away_has_no_tokens(folder):
    state = TransformersTokenizer(model=folder).state()
    drop = {"type": "Replace", "pattern": {"String": "~"}, "content": ""}
    tokenizer = TransformersTokenizer(model=folder)
    tokenizer.load_state({**state, "tokenizer": {**state["tokenizer"], "normalizer": drop}})
    assert tokenizer.encode(["~", "a~"]).layout.lengths == (0, 3)


def test_what_looks_like_a_special_token_is_text(folder):
    tokenizer = TransformersTokenizer(model=folder)
    found = tokenizer.encode([TEXTS[2]])
    assert tokenizer.spec.special["mask"] not in found.ids.tolist()
    assert tokenizer.decode(found) == [TEXTS[2]]


def test_roles_are_the_librarys(folder):
    library = transformers.AutoTokenizer.from_pretrained(folder)
    special = TransformersTokenizer(model=folder).spec.special
    assert special == {
        "pad": library.pad_token_id,
        "unknown": library.unk_token_id,
        "mask": library.mask_token_id,
        "begin": library.cls_token_id,
        "end": library.sep_token_id,
    }


def test_a_saved_tokenizer_needs_its_folder_no_more(folder):
    tokenizer = TransformersTokenizer(model=folder)
    state = json.loads(json.dumps(tokenizer.state()))
    elsewhere = TransformersTokenizer(model="./gone")
    elsewhere.load_state(state)
    assert elsewhere.spec == tokenizer.spec
    assert pickle.loads(pickle.dumps(elsewhere)).encode(TEXTS).ids.tolist() == (
        tokenizer.encode(TEXTS).ids.tolist()
    )
    with pytest.raises(DataError, match=r"tokenizer of './gone' can't be loaded"):
        _ = TransformersTokenizer(model="./gone").spec
    with pytest.raises(ValueError, match="has 'tokenizer' and 'special'"):
        elsewhere.load_state({"vocabulary": []})


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_the_librarys_for_each_text_alone(kind):
    ours = encoder(kind).double().eval()
    batch = tokens()
    with torch.no_grad():
        found = ours(batch)
        for segment, length in enumerate(LENGTHS):
            alone = found.select([segment])
            if length:
                ids = batch.select([segment]).ids[None]
                wanted = ours.model(input_ids=ids).last_hidden_state[0]
                torch.testing.assert_close(alone.vectors, wanted, rtol=0, atol=1e-6)
                torch.testing.assert_close(alone.pooled[0], wanted.mean(dim=0), rtol=0, atol=1e-6)
            else:
                assert not alone.pooled.any()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_causal_if_later_tokens_change_nothing(kind):
    ours = encoder(kind).double().eval()
    batch = tokens((13,))
    changed = batch.with_rows(batch.ids.index_fill(0, torch.arange(9, 13), 7))
    with torch.no_grad():
        same = torch.allclose(ours(batch).vectors[:9], ours(changed).vectors[:9], atol=1e-9)
    assert ours.causal == same


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient_with_and_without_tokens(kind):
    ours = encoder(kind).train()
    found = ours(tokens())
    (found.vectors * torch.randn_like(found.vectors)).sum().backward()
    assert [n for n, p in ours.named_parameters() if p.grad is None or not p.grad.any()] == []
    ours.zero_grad()
    nothing = ours(tokens((0, 0)))
    assert nothing.vectors.shape == (0, 32) and not nothing.pooled.any()
    (nothing.vectors.sum() + nothing.pooled.sum()).backward()
    assert [n for n, p in ours.named_parameters() if p.grad is None or p.grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_layers_hold_every_parameter_once(kind):
    ours = encoder(kind)
    held = [id(p) for layer in ours.layers() for p in layer.parameters()]
    assert sorted(held) == sorted(id(p) for p in ours.parameters())
    if kind != "albert":
        assert id(ours.table.weight) in {id(p) for p in ours.layers()[0].parameters()}
        assert len(ours.layers()) >= 3


def test_pooled_is_what_the_option_says():
    batch = tokens()
    rows = {"first": [0, 5, 14, 15], "last": [4, 13, 14, 27]}
    for pool in rows:
        found = encoder("bert", pool=pool).eval()(batch)
        torch.testing.assert_close(found.pooled[[0, 2, 3, 4]], found.vectors[rows[pool]])
        assert not found.pooled[1].any()
    ours = encoder("bert", pool="pooler").eval()
    wanted = ours.model(input_ids=batch.select([2]).ids[None]).pooler_output[0]
    torch.testing.assert_close(ours(batch).pooled[2], wanted, rtol=0, atol=1e-5)


def test_tapped_layers_and_maps_are_the_librarys():
    ours = encoder("bert", attention="eager").eval()
    batch = tokens()
    found = ours(batch, taps=Taps(hidden=(0, -1), attention=(-1,)))
    wanted = ours.model(
        input_ids=batch.select([2]).ids[None], output_hidden_states=True, output_attentions=True
    )
    rows = slice(5, 14)
    torch.testing.assert_close(found.hidden[0][rows], wanted.hidden_states[1][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.hidden[-1], found.vectors)
    assert [tuple(each.shape) for each in found.attention[-1]] == [(2, n, n) for n in LENGTHS]
    torch.testing.assert_close(found.attention[-1][2], wanted.attentions[-1][0], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="taps must be among 2 blocks"):
        ours(batch, taps=Taps(hidden=(2,)))
    with pytest.raises(ValueError, match="attention: eager"):
        encoder("bert")(batch, taps=Taps(attention=(0,)))


def test_trained_weights_are_loaded_and_score_the_vocabulary_in_use(folder):
    tokenizer = TransformersTokenizer(model=folder, max_tokens=24)
    ours = TransformersEncoder(tokenizer.spec, model=folder, pretrained=True).eval()
    library = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    batch = tokenizer.encode(TEXTS[:1])
    wanted = library.bert(input_ids=batch.ids[None]).last_hidden_state[0]
    torch.testing.assert_close(ours(batch).vectors, wanted, rtol=0, atol=1e-5)
    # The model has 300 ids, the tokenizer fewer.
    assert ours.unembed(torch.zeros(1, 32)).shape == (1, tokenizer.spec.vocabulary) != (1, 300)


def test_loading_weights_leaves_the_librarys_log_as_it_was(folder):
    import logging

    before = logging.getLogger("transformers").level
    spec = TokenSpec(vocabulary=60, max_tokens=20)
    TransformersEncoder(spec, model=folder, pretrained=True)
    assert logging.getLogger("transformers").level == before


def test_a_plan_reads_no_weights(folder):
    with torch.device("meta"):
        ours = TransformersEncoder(SPEC, model=folder, pretrained=True)
    assert {p.device.type for p in ours.parameters()} == {"meta"}


def test_weights_that_are_not_all_there_are_refused(folder):
    with pytest.raises(DataError, match="lack .* of the model's"):
        TransformersEncoder(SPEC, model=folder, pretrained=True, config={"num_hidden_layers": 3})
    with pytest.raises(DataError, match="no pooler"):
        TransformersEncoder(SPEC, model=folder, pretrained=True, pool="pooler")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "brt"}, r"'brt' can't be made.* Did you mean 'bert'\?"),
        (
            {"model": "bert", "config": {"hiden_size": 3}},
            "'hiden_size'. Did you mean 'hidden_size'",
        ),
        ({"model": "bert", "config": {"hidden_size": 33}}, "bert can't be built as configured"),
        ({"model": "bert", "pretrained": True}, "for random weights set pretrained: false"),
        ({"model": "bert", "config": {"max_position_embeddings": 10}}, "Set its max_tokens"),
        ({"model": "roberta", "config": {"max_position_embeddings": 20}}, "takes 18 tokens"),
        ({"model": "bert", "config": {"vocab_size": 50}}, "50 token ids, but the tokenizer has 60"),
        ({"model": "gpt2", "pool": "pooler"}, "has no pooler"),
        ({"model": "convbert"}, "convolutions reach"),
        ({"model": "nystromformer"}, "how far a batch is padded"),
        ({"model": "clip_text_model"}, "takes no inputs_embeds"),
    ],
)
def test_a_model_that_will_not_do_is_refused(options, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    options = {**options, "config": {**SMALL, **options.get("config", {})}}
    with pytest.raises(ValueError, match=message):
        TransformersEncoder(SPEC, **options)


def test_values_are_refused():
    with pytest.raises(ValueError, match="needs tokens with ids"):
        TransformersEncoder(TokenSpec(features=4), model="bert")


def test_code_that_comes_with_a_model_is_never_run(folder, tmp_path):
    for file in Path(folder).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stranger = {"auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own",
                             "AutoTokenizer": ["own.Own", "own.Own"]}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", **stranger}))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", **stranger})
    )
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(ValueError, match="can't be used: it comes with code of its own"):
        encoder(str(tmp_path), pretrained=True)
    with pytest.raises(DataError, match="can't be loaded: it comes with code of its own"):
        TransformersTokenizer(model=str(tmp_path)).spec  # noqa: B018
    assert not (tmp_path / "ran").exists()
