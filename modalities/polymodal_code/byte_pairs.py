"""Byte-level byte-pair encoding for code: nothing is lower-cased, no blank is lost."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from polymodal_text import ROLES, SubwordTokenizer, learn_byte_pairs, load_byte_pairs


class CodeBytePairs(SubwordTokenizer):
    """Byte-level BPE over code, learned from the training split or loaded.

    It decodes to the very text. Runs of blanks are pieces, so indentation costs a token or two a
    line.

    Args:
        vocabulary_size: ids, special tokens and the 256 bytes included; None: the file's, or 8,000.
        file: a tokenizer.json, or a vocab.json with its merges.txt, in place of learning.
        max_tokens: longer segments are cut.
        mark_ends: put begin and end tokens around each segment.
        sentinels: ids that stand for what is cut out of a segment.

    Raises:
        ValueError: a vocabulary too small for the bytes.
    """

    reader = "code.text"
    smallest_vocabulary = len(ROLES) + 256

    def learn(self, texts: Iterable[str], size: int) -> Tokenizer:
        """Learn byte-level BPE with at most `size` ids."""
        return learn_byte_pairs(texts, size)

    def load(self, path: Path) -> Tokenizer:
        """Load a tokenizer.json, or a vocab.json with its merges.txt."""
        return load_byte_pairs(path)
