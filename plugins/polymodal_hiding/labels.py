"""Labels of words: a field of the sample with one a word, as numbers of tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from polymodal import DataError, Tokens, TokenSpec


def ordinary(tokens: Tokens, spec: TokenSpec) -> Bool[Tensor, " token"]:
    """Return which tokens are not of the kind "special"."""
    kinds = tokens.layout.kinds
    if kinds is None or "special" not in spec.kinds:
        return torch.ones(tokens.layout.tokens, dtype=torch.bool, device=tokens.layout.device)
    return kinds != spec.kinds.index("special")


def word_numbers(
    tokens: Tokens, spec: TokenSpec, numbers: Sequence[Sequence[int] | None], *, field: str
) -> Int[Tensor, " token"]:
    """Return each token the number of its word; -1 for special tokens and samples without numbers.

    Words are those of the channel "word". A text that was cut may have fewer than there are
    numbers. Waits for the device, to refuse a text that has more.

    Args:
        tokens: of the batch, one segment a sample or copies of it.
        spec: what they are like.
        numbers: for each sample, one a word; None for a sample without.
        field: they come from, for errors.

    Raises:
        DataError: a text with more words than numbers.
    """
    layout = tokens.layout
    word = layout.channels.get("word", layout.segment)  # a batch without tokens may lack it
    content = ordinary(tokens, spec)
    far = torch.iinfo(word.dtype).max
    first = word.new_full((layout.segments,), far).scatter_reduce(
        0, layout.segment, torch.where(content, word, far), "amin"
    )
    counts = [-1 if n is None else len(n) for n in numbers]
    sizes = torch.tensor(counts, dtype=torch.int64, device=word.device)
    size = sizes[layout.sample]
    place = word - first[layout.segment]
    labelled = content & (size >= 0)
    beyond = labelled & (place >= size)
    if bool(beyond.any()):
        sample = int(layout.sample[beyond][0])
        words = int(place[beyond & (layout.sample == sample)].max()) + 1
        raise DataError(
            f"the field {field!r} must hold a label for each word, but one text has {words} words "
            f"or more and {sizes[sample]} labels. Words are what the tokenizer splits texts into"
        )
    chained = [n for each in numbers for n in each or ()]
    flat = torch.tensor(chained, dtype=torch.int64, device=word.device)
    starts = (sizes.clamp(min=0).cumsum(0) - sizes.clamp(min=0))[layout.sample]
    found = torch.full_like(word, -1)
    found[labelled] = flat[(starts + place)[labelled]]
    return found
