import json
import pickle

import pytest
import torch

open_clip = pytest.importorskip("open_clip")

from polymodal import DataError, Layout, Taps, Tokens, TokenSpec  # noqa: E402
from polymodal_text.clip_tokenizer import ClipTokenizer  # noqa: E402
from polymodal_text.clip_tower import ClipTextTower  # noqa: E402

TEXTS = ["a photo of a cat", "two words and then many more words follow for ever", "hi!"]
VISION = {"layers": 1, "width": 32, "patch_size": 16, "image_size": 16, "head_width": 32}

# The shapes of text tower that open_clip's own models have.
KINDS = {
    "clip": {},
    "siglip": {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    "coca": {"embed_cls": True},
    "coca with the right mask": {"embed_cls": True, "correct_cls_mask": True},
    "first": {"no_causal_mask": True, "pool_type": "first"},
    "last": {"pool_type": "last"},
    "unprojected": {"proj_type": "none"},
}


@pytest.fixture
def model(tmp_path):
    def make(**text):
        sizes = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
        config = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": {**sizes, **text}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        return f"local-dir:{tmp_path}"

    return make


def library_tower(model, tower):
    """The library's own tower with the weights of ours."""
    config = open_clip.get_model_config(model)
    mask = config["text_cfg"].pop("correct_cls_mask", False)
    library = open_clip.model._build_text_tower(config["embed_dim"], config["text_cfg"]).eval()
    library.correct_cls_mask = mask
    library.token_embedding = tower.stem.table
    library.positional_embedding = tower.stem.places
    library.cls_emb = tower.stem.class_vector
    library.transformer.resblocks = tower.blocks
    library.ln_final = tower.head.norm
    library.text_projection = tower.head.projection
    library.output_tokens = True
    return library


def test_tokens_are_the_librarys_without_padding():
    texts = [*TEXTS, "word " * 100]
    wanted = open_clip.get_tokenizer("ViT-B-32")(texts)
    tokens = ClipTokenizer().encode(texts)
    assert torch.equal(
        torch.nn.functional.pad(tokens.padded()[0], (0, 77 - tokens.layout.longest)), wanted
    )
    assert tokens.layout.lengths[2] == 4  # begin, hi, !, end
    assert tokens.layout.kinds[:7].tolist() == [1, 0, 0, 0, 0, 0, 1]


def test_absent_and_empty_text_have_no_tokens_and_others_decode():
    tokenizer = pickle.loads(pickle.dumps(ClipTokenizer(max_tokens=5)))
    tokens = tokenizer.encode([None, "", "A Photo!", "one two three four five"])
    assert tokens.layout.lengths == (0, 0, 5, 5)
    assert tokenizer.decode(tokens) == ["", "", "a photo !", "one two three"]
    assert tokenizer.spec.extent == (5,)


def test_pad_and_content_are_told_apart_though_they_share_an_id():
    tokenizer = ClipTokenizer()
    assert tokenizer.decode(tokenizer.encode(["!!! a !"])) == ["!!! a !"]


@pytest.mark.parametrize("kind", KINDS)
def test_pooled_is_the_librarys_encode_text(model, kind):
    name = model(**{k: v for k, v in KINDS[kind].items() if k != "correct_cls_mask"})
    tokenizer = ClipTokenizer(model=name)
    tower = ClipTextTower(tokenizer.spec, model=name).eval()
    library = library_tower(name, tower)
    tower.class_mask_is_right = library.correct_cls_mask = "correct_cls_mask" in KINDS[kind]
    texts = [text.replace("!", ".") for text in TEXTS]  # CoCa's mask takes "!" for padding
    wanted, _ = library(open_clip.get_tokenizer(name)(texts))
    encoded = tower(tokenizer.encode([texts[0], "", *texts[1:]]))
    torch.testing.assert_close(encoded.pooled[[0, 2, 3]], wanted, atol=1e-5, rtol=1e-5)
    assert not encoded.pooled[1].any()


def test_unprojected_tokens_are_the_librarys(model):
    name = model()
    tokenizer = ClipTokenizer(model=name)
    tower = ClipTextTower(tokenizer.spec, model=name, project=False).eval()
    library = library_tower(name, tower)
    _, wanted = library(open_clip.get_tokenizer(name)(TEXTS))
    encoded = tower(tokenizer.encode(TEXTS))
    assert tower.width == encoded.width == 16
    torch.testing.assert_close(
        encoded.vectors, wanted[:, :12][_filled(encoded)], atol=1e-5, rtol=1e-5
    )


def _filled(encoded):
    filled = encoded.layout.filled
    return torch.nn.functional.pad(filled, (0, 12 - filled.shape[1]))


@pytest.mark.parametrize("kind", ["clip", "siglip", "coca"])
@pytest.mark.parametrize("texts", [[], [None, ""]])
def test_no_text_at_all_passes_and_reaches_every_weight(model, kind, texts):
    name = model(**KINDS[kind])
    tokenizer = ClipTokenizer(model=name)
    tower = ClipTextTower(tokenizer.spec, model=name)
    encoded = tower(tokenizer.encode(texts))
    assert encoded.pooled.shape == (len(texts), 8)
    (encoded.pooled.sum() + encoded.vectors.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in tower.parameters())


def test_no_sample_sees_another(model):
    name = model(**KINDS["siglip"])
    tokenizer = ClipTokenizer(model=name)
    tower = ClipTextTower(tokenizer.spec, model=name).eval()
    together = tower(tokenizer.encode(["a cat", "a dog"])).pooled
    torch.testing.assert_close(together[:1], tower(tokenizer.encode(["a cat"])).pooled)


def test_hidden_layers_can_be_tapped_and_attention_can_not(model):
    name = model()
    tokenizer = ClipTokenizer(model=name)
    tower = ClipTextTower(tokenizer.spec, model=name, gradient_checkpointing=True)
    tokens = tokenizer.encode(TEXTS)
    encoded = tower(tokens, taps=Taps(hidden=(0, -1)))
    assert encoded.hidden[0].shape == (tokens.layout.tokens, 16)
    torch.testing.assert_close(tower.head(encoded.hidden[-1]), encoded.vectors)
    encoded.pooled.sum().backward()
    assert tower.stem.table.weight.grad.any()
    with pytest.raises(ValueError, match="no attention maps"):
        tower(tokens, taps=Taps(attention=(0,)))
    with pytest.raises(ValueError, match="2 blocks"):
        tower(tokens, taps=Taps(hidden=(2,)))


@pytest.mark.parametrize("custom", [False, True])
def test_weights_come_from_a_checkpoint_of_the_whole_model(model, tmp_path, custom):
    name = model()
    make = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    whole = make(**open_clip.get_model_config(name)).eval()
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "weights.pt")
    tokenizer = ClipTokenizer(model=name)
    weights = str(tmp_path / "weights.pt")
    tower = ClipTextTower(tokenizer.spec, model=name, pretrained=weights).eval()
    wanted = whole.encode_text(open_clip.get_tokenizer(name)(TEXTS))
    torch.testing.assert_close(tower(tokenizer.encode(TEXTS)).pooled, wanted, atol=1e-5, rtol=1e-5)


def test_weights_that_do_not_fit_are_refused(model, tmp_path):
    name = model()
    spec = ClipTokenizer(model=name).spec
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    torch.save({"visual.weight": torch.zeros(2)}, tmp_path / "other.pt")
    for file, reason in (("broken.pt", "can't be loaded into"), ("other.pt", "Missing key")):
        with pytest.raises(DataError, match=reason):
            ClipTextTower(spec, model=name, pretrained=str(tmp_path / file))


def test_unknown_names_are_refused_with_the_nearest(model):
    spec = TokenSpec(vocabulary=49408, max_tokens=77)
    with pytest.raises(ValueError, match="Did you mean 'ViT-B-32"):
        ClipTextTower(spec, model="ViT-B-33x")
    with pytest.raises(ValueError, match="no model 'vit'"):
        ClipTokenizer(model="vit")
    with pytest.raises(ValueError, match="Did you mean 'laion2b_s34b_b79k'"):
        ClipTextTower(spec, model="ViT-B-32", pretrained="laion2b_s34b_b79")
    with pytest.raises(ValueError, match="Hugging Face model 'roberta-base'"):
        ClipTextTower(spec, model="roberta-ViT-B-32")


def test_tokens_the_tower_has_no_room_for_are_refused(model):
    name = model()
    with pytest.raises(ValueError, match="49408 token ids"):
        ClipTextTower(TokenSpec(vocabulary=50000, max_tokens=5), model=name)
    with pytest.raises(ValueError, match="takes 12 tokens"):
        ClipTextTower(TokenSpec(vocabulary=100, max_tokens=13), model=name)
    with pytest.raises(ValueError, match="between 3 and the 12"):
        ClipTokenizer(model=name, max_tokens=13)


def test_places_follow_tokens_that_stay_when_others_are_dropped(model):
    name = model()
    tower = ClipTextTower(TokenSpec(vocabulary=100, max_tokens=12), model=name).eval()
    tokens = Tokens(Layout.of([3]), ids=torch.tensor([5, 6, 7]))
    kept = tokens.keep(torch.tensor([True, False, True]))
    torch.testing.assert_close(
        tower.embed(kept).vectors, tower.embed(tokens).vectors[[0, 2]], atol=0, rtol=0
    )


def test_a_hub_tokenizer_gives_its_tokens_without_padding(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["</s>", "<pad>", "<unk>", "a", "cat", "photo"]  # the end token's id is 0
    inner = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    name = model(**KINDS["siglip"], hf_tokenizer_name="here", vocab_size=10)
    tokenizer = pickle.loads(pickle.dumps(ClipTokenizer(model=name)))
    assert tokenizer.spec.special == {"pad": 1, "unknown": 2, "end": 0}
    texts = ["a cat", "a photo dog " * 5]
    tokens = tokenizer.encode([texts[0], None, texts[1]])
    assert tokens.layout.lengths == (3, 0, 12)
    assert tokens.ids.tolist()[:3] == [3, 4, 0]
    assert tokenizer.decode(tokens)[:2] == ["a cat", ""]
    tower = ClipTextTower(tokenizer.spec, model=name).eval()
    wanted, _ = library_tower(name, tower)(open_clip.get_tokenizer(name)(texts))
    torch.testing.assert_close(tower(tokens).pooled[[0, 2]], wanted, atol=1e-5, rtol=1e-5)


def test_what_open_clip_declares_does_not_decay(model):
    name = model()
    tower = ClipTextTower(ClipTokenizer(model=name).spec, model=name)
    kept = {id(dict(tower.named_parameters())[each]) for each in tower.no_weight_decay()
            if each in dict(tower.named_parameters())}  # fmt: skip
    library = open_clip.transformer.TextTransformer(
        context_length=8, vocab_size=8, width=32, heads=2, layers=1
    )
    assert library.no_weight_decay() == {"positional_embedding"}
    assert kept == {id(tower.stem.places)}
