"""A small case of each component, for the conformance kit."""

import json
from pathlib import Path

from polymodal.testing import Example

TEXTS = (
    "a photo of a cat", "two words and then many more words follow", "Hi!", "naïve façade — 東京",
    "the cat and the dog saw the other cat",
)  # fmt: skip


def _open_clip_model(folder: Path) -> None:
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"layers": 1, "width": 32, "patch_size": 16, "image_size": 16, "head_width": 32}
    model = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))


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
            "text.open_clip", "encoder", {"model": "local-dir:{folder}"},
            tokenizer={"use": "text.open_clip", "max_tokens": 12}, raws=texts,
            prepare=_open_clip_model,
        ),
    ]  # fmt: skip
