"""Byte-level byte-pair encoding: any text, no unknown token (Sennrich et al., 2016; GPT-2)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from polymodal import FilePath
from polymodal_text.subwords import ROLES, SPECIAL, SubwordTokenizer, text_of_file

BYTES = 256

# GPT-2's words, but for marks: theirs end at the vowel signs of Hindi or Thai.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"


def without_added_tokens(trained: Tokenizer, model: models.Model) -> Tokenizer:
    """Return a tokenizer of this model that shares another's text handling, and no added tokens."""
    plain = Tokenizer(model)
    if trained.normalizer is not None:
        plain.normalizer = trained.normalizer
    if trained.pre_tokenizer is not None:
        plain.pre_tokenizer = trained.pre_tokenizer
    if trained.decoder is not None:
        plain.decoder = trained.decoder
    return plain


def learn_byte_pairs(
    texts: Iterable[str],
    size: int,
    *,
    lower_case: bool = False,
    normal_form: Literal["none", "NFC", "NFKC"] = "none",
) -> Tokenizer:
    """Learn byte-level BPE with at most `size` ids: special tokens, 256 bytes, then merges."""
    trained = Tokenizer(models.BPE())
    steps: list[normalizers.Normalizer] = []
    if normal_form != "none":
        steps.append(normalizers.NFC() if normal_form == "NFC" else normalizers.NFKC())
    if lower_case:
        steps.append(normalizers.Lowercase())
    if steps:
        trained.normalizer = normalizers.Sequence(steps)
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return without_added_tokens(trained, trained.model)


def load_byte_pairs(path: Path) -> Tokenizer:
    """Return the BPE of a tokenizer.json, or of a vocab.json with merges.txt beside it.

    Raises:
        ValueError: merges.txt is missing, or the tokenizer is of another kind.
    """
    if path.name.endswith("vocab.json"):
        merges = path.with_name(path.name.replace("vocab.json", "merges.txt"))
        if not merges.is_file():
            raise ValueError(f"{path} needs the file {merges.name} beside it")
        loaded = Tokenizer(models.BPE(*_vocabulary_and_merges(path, merges)))
        loaded.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        loaded.decoder = decoders.ByteLevel()
        return loaded
    loaded = Tokenizer.from_str(text_of_file(path))
    if not isinstance(loaded.model, models.BPE):
        raise ValueError(f"{path} holds {type(loaded.model).__name__}, not BPE")
    return loaded


def _vocabulary_and_merges(
    path: Path, merges: Path
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return what the two files hold; a line "#version: 0.2" may stand first."""
    vocabulary = json.loads(text_of_file(path))
    pairs = []
    for number, line in enumerate(text_of_file(merges).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise ValueError(f"{merges}: line {number} is no pair of pieces: {line!r:.60}")
        pairs.append((pair[0], pair[1]))
    return vocabulary, pairs


class BytePairs(SubwordTokenizer):
    """Byte-level BPE, learned from the training split or loaded; decodes to the very text.

    Args:
        vocabulary_size: ids, special tokens and the 256 bytes included; None: the file's, or 8,000.
        file: a tokenizer.json, or a vocab.json with its merges.txt, in place of learning.
        max_tokens: longer segments are cut.
        mark_ends: put begin and end tokens around each segment.
        sentinels: ids that stand for what is cut out of a segment.
        lower_case: lower-case before learning and encoding; a loaded file has its own rule.
        normal_form: Unicode normal form to bring text to first; the same holds.

    Raises:
        ValueError: a vocabulary too small for the bytes.
    """

    reader = "text.plain"
    smallest_vocabulary = len(ROLES) + BYTES

    def __init__(
        self,
        *,
        vocabulary_size: int | None = None,
        file: FilePath | None = None,
        max_tokens: int = 512,
        mark_ends: bool = True,
        sentinels: int = 0,
        lower_case: bool = False,
        normal_form: Literal["none", "NFC", "NFKC"] = "none",
    ):
        super().__init__(
            vocabulary_size=vocabulary_size, file=file, max_tokens=max_tokens, mark_ends=mark_ends,
            sentinels=sentinels,
        )  # fmt: skip
        self.lower_case = lower_case
        self.normal_form = normal_form

    def learn(self, texts: Iterable[str], size: int) -> Tokenizer:
        """Learn byte-level BPE with at most `size` ids."""
        return learn_byte_pairs(
            texts, size, lower_case=self.lower_case, normal_form=self.normal_form
        )

    def load(self, path: Path) -> Tokenizer:
        """Load a tokenizer.json, or a vocab.json with its merges.txt."""
        return load_byte_pairs(path)
