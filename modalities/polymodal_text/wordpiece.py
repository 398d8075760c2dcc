"""WordPiece: the longest known piece first (Schuster and Nakajima, 2012; BERT).

The pieces are learned by BPE over words: the library's own WordPiece training gives another
vocabulary each time.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from polymodal import FilePath
from polymodal_text.subwords import ROLES, SPECIAL, SubwordTokenizer, text_of_file

INSIDE = "##"  # what a piece inside a word begins with
LARGEST_ALPHABET = 1000


class WordPiece(SubwordTokenizer):
    """WordPiece, learned from the training split or loaded.

    A quarter of the vocabulary at most, and 1,000 characters at most, goes to the alphabet, the
    commonest first; a word with a character outside it is one unknown token.

    Args:
        vocabulary_size: ids, special tokens included; None: the file's, or 8,000.
        file: a vocab.txt (one piece a line) or a tokenizer.json, in place of learning.
        max_tokens: longer segments are cut.
        mark_ends: put begin and end tokens around each segment.
        sentinels: ids that stand for what is cut out of a segment.
        lower_case: lower-case; a tokenizer.json has its own rule.
        strip_accents: drop all marks on letters, as BERT's uncased models do: accents ("é" becomes
            "e"), but also what makes other words, such as the vowel signs of Hindi and Thai or the
            dots of Maltese. None: as BERT does (with `lower_case`) for a loaded vocab.txt, and not
            for a learned vocabulary. The same holds.
    """

    reader = "text.plain"
    smallest_vocabulary = len(ROLES) + 8

    def __init__(
        self,
        *,
        vocabulary_size: int | None = None,
        file: FilePath | None = None,
        max_tokens: int = 512,
        mark_ends: bool = True,
        sentinels: int = 0,
        lower_case: bool = True,
        strip_accents: bool | None = None,
    ):
        super().__init__(
            vocabulary_size=vocabulary_size, file=file, max_tokens=max_tokens, mark_ends=mark_ends,
            sentinels=sentinels,
        )  # fmt: skip
        self.lower_case = lower_case
        self.strip_accents = strip_accents

    def _dressed(self, model: models.Model) -> Tokenizer:
        dressed = Tokenizer(model)
        strip = self.strip_accents
        if strip is None:
            strip = self.lower_case and self.file is not None
        bert = normalizers.BertNormalizer(lowercase=self.lower_case, strip_accents=strip)
        # Marks that stay may be written apart from their letter or with it: one form for both.
        learned = self.file is None and not strip
        dressed.normalizer = normalizers.Sequence([normalizers.NFC(), bert]) if learned else bert
        dressed.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        dressed.decoder = decoders.WordPiece(prefix=INSIDE, cleanup=False)
        return dressed

    def learn(self, texts: Sequence[str], size: int) -> Tokenizer:
        """Learn at most `size` pieces: special tokens, the alphabet in both places, merges."""
        trained = self._dressed(models.BPE(continuing_subword_prefix=INSIDE))
        plain = [trained.normalizer.normalize_str(text) for text in texts]
        seen: Counter[str] = Counter()
        for text in plain:
            seen.update(text)
        for blank in [character for character in seen if character.isspace()]:
            del seen[blank]
        most = min(LARGEST_ALPHABET, (size - len(ROLES)) // 4)
        common = sorted(seen, key=lambda character: (-seen[character], character))
        alphabet, rare = sorted(common[:most]), common[most:]
        # The alphabet goes in as special tokens, in an order of ours, and what is outside it is
        # taken out here: the trainer would do both, but differently each time.
        first = [*SPECIAL, *alphabet, *(INSIDE + character for character in alphabet)]
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=first,
            continuing_subword_prefix=INSIDE,
            show_progress=False,
        )
        if rare:
            gaps = str.maketrans(dict.fromkeys(rare, " "))
            plain = [text.translate(gaps) for text in plain]
        trained.train_from_iterator(plain, trainer)
        vocabulary = trained.get_vocab(with_added_tokens=True)
        return self._dressed(models.WordPiece(vocab=vocabulary, unk_token=SPECIAL[1]))

    def load(self, path: Path) -> Tokenizer:
        """Load a vocab.txt or a tokenizer.json.

        Raises:
            ValueError: the tokenizer is of another kind.
        """
        if path.suffix != ".json":
            # Lines end at a line feed alone: other separators, such as U+2028, are pieces.
            lines = text_of_file(path).rstrip("\r\n").split("\n")
            pieces = [line.removesuffix("\r") for line in lines]
            vocabulary = {piece: number for number, piece in enumerate(pieces)}
            unknown = next((name for name in (SPECIAL[1], "<unk>") if name in vocabulary), None)
            if unknown is None:
                raise ValueError(f"{path} has no unknown token '[UNK]': it is no WordPiece list")
            return self._dressed(models.WordPiece(vocab=vocabulary, unk_token=unknown))
        loaded = Tokenizer.from_str(text_of_file(path))
        if not isinstance(loaded.model, models.WordPiece):
            raise ValueError(f"{path} holds {type(loaded.model).__name__}, not WordPiece")
        return loaded
