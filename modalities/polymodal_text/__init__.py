"""text: plain text as subword tokens."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_text.byte_pairs import learn_byte_pairs, load_byte_pairs
    from polymodal_text.plain import text_of
    from polymodal_text.subwords import ROLES, SPECIAL, SubwordTokenizer

polymodal_interface = 1

# What the code and genome plugins build on; imported on demand, so that listing stays light.
_HOME = {
    "ROLES": "subwords",
    "SPECIAL": "subwords",
    "SubwordTokenizer": "subwords",
    "learn_byte_pairs": "byte_pairs",
    "load_byte_pairs": "byte_pairs",
    "text_of": "plain",
}

__all__ = ["ROLES", "SPECIAL", "SubwordTokenizer", "learn_byte_pairs", "load_byte_pairs", "text_of"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_text' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_text.{_HOME[name]}"), name)
    globals()[name] = value
    return value


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the readers, tokenizers and encoders of text."""
    registry.reader(
        "plain", "polymodal_text.plain:PlainReader", "strings, bytes, text files, keyword lists"
    )
    registry.tokenizer(
        "wordpiece",
        "polymodal_text.wordpiece:WordPiece",
        "WordPiece, learned from the training split or loaded",
    )
    registry.tokenizer(
        "bpe", "polymodal_text.byte_pairs:BytePairs", "byte-level BPE, learned or loaded"
    )
    registry.tokenizer(
        "open_clip",
        "polymodal_text.clip_tokenizer:ClipTokenizer",
        "the tokenizer of an open_clip model, unpadded",
    )
    registry.tokenizer(
        "transformers",
        "polymodal_text.transformers_tokenizer:TransformersTokenizer",
        "the tokenizer of a Hugging Face transformers model, unpadded",
    )
    registry.encoder(
        "transformer",
        "polymodal:TransformerEncoder",
        "packed transformer over token ids",
    )
    registry.encoder(
        "open_clip",
        "polymodal_text.clip_tower:ClipTextTower",
        "the text tower of an open_clip model, with its weights if asked",
    )
    registry.encoder(
        "transformers",
        "polymodal_text.transformers_encoder:TransformersEncoder",
        "any text model of Hugging Face transformers, trained or not",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_text.examples import examples

    return examples()
