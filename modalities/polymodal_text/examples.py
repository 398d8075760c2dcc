"""A small case of each component, for the conformance kit."""

import json
from pathlib import Path

from polymodal.testing import Example

TEXTS = (
    "a photo of a cat", "two words and then many more words follow", "Hi!", "naïve façade — 東京",
    "the cat and the dog saw the other cat",
)  # fmt: skip
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _open_clip_model(folder: Path) -> None:
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"layers": 1, "width": 32, "patch_size": 16, "image_size": 16, "head_width": 32}
    model = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))


def _transformers_model(folder: Path) -> None:
    """Write a folder as transformers keeps one: BERT's kind of tokenizer over letters, a config."""
    special = ["[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]"]
    letters = sorted(set("".join(TEXTS)) - {" "})
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    marks = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]")]
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [marks[0], {"Sequence": {"id": "A", "type_id": 0}}, marks[1]],
            "pair": [],
            "special_tokens": {
                name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]}
                for name in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    }  # fmt: skip
    names = ("pad_token", "unk_token", "mask_token", "cls_token", "sep_token")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **dict(zip(names, special))}
    config = {"model_type": "bert", **SMALL, "intermediate_size": 64, "max_position_embeddings": 64}
    for name, content in {
        "tokenizer": tokenizer, "tokenizer_config": settings, "config": config,
    }.items():  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(content))


def examples() -> list[Example]:
    """Return sentences, and tokenizers that learn from them."""
    learned = {"vocabulary_size": 300, "max_tokens": 24}
    texts = list(TEXTS)
    return [
        Example("text.plain", "reader", values=[*texts, b"bytes", ["key", "words"]]),
        Example("text.wordpiece", "tokenizer", learned, raws=texts),
        Example("text.bpe", "tokenizer", learned, raws=texts),
        Example("text.open_clip", "tokenizer", {"max_tokens": 12}, raws=texts),
        Example(
            "text.transformer", "encoder", {"width": 32, "depth": 1, "heads": 2},
            tokenizer={"use": "text.wordpiece", **learned}, raws=texts,
        ),
        Example(
            "text.transformers", "tokenizer", {"model": "{folder}", "max_tokens": 12}, raws=texts,
            prepare=_transformers_model,
        ),
        Example(
            "text.transformers", "encoder", {"model": "{folder}", "pool": "pooler"},
            tokenizer={"use": "text.wordpiece", **learned}, raws=texts, prepare=_transformers_model,
        ),
        Example(
            "text.transformers", "encoder", {"model": "gpt2", "config": SMALL, "pool": "last"},
            tokenizer={"use": "text.wordpiece", **learned}, raws=texts,
        ),
        Example(
            "text.open_clip", "encoder", {"model": "local-dir:{folder}"},
            tokenizer={"use": "text.open_clip", "max_tokens": 12}, raws=texts,
            prepare=_open_clip_model,
        ),
    ]  # fmt: skip
