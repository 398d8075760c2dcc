"""Random sequences of bases with planted motifs, with captions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from polymodal_demo.drawn import DrawnSource, pick

MOTIFS = {  # consensus sequences
    "TATA box": "TATAAAAG",
    "CAAT box": "GGCCAATCT",
    "GC box": "GGGGCGGGG",
    "poly-A signal": "AATAAA",
    "E box": "CACGTG",
    "CRE": "TGACGTCA",
}
_ONE = ("{first}", "a sequence with one motif: {first}", "only {article} {first}")
_TWO = (
    "{first} then {second}",
    "{first} followed by {second}",
    "{article} {first} upstream of {second}",
    "a sequence with {first} before {second}",
)


class Genomes(DrawnSource):
    """Sequences made here: `genome`, `text`, `label` (the first motif), `motifs`.

    80 to 120 random bases, of which 35 to 65 % are G or C, with one motif or two different ones
    planted at random places: the consensus of the TATA box, CAAT box, GC box, poly-A signal, E
    box or cAMP response element (CRE). In one of ten motifs of eight bases or more a base is
    changed. No motif stands anywhere it was not planted. `label` names the first motif from the
    left, `motifs` all of them in order ("TATA box, GC box"), `text` the same in one of some
    phrasings. The order means nothing in biology; these are no promoters.

    What can be learnt: short words among much that is random, and which of two comes first (6
    classes): the average over a sequence tells which motifs there are, not their order. 36
    captions differ in meaning.

    Args:
        samples: how many rows.
        seed: of all that is drawn.
    """

    def __init__(self, *, samples: int = 2000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("genome", "text", "label", "motifs")

    def draw(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return a sequence, drawn again while a motif stands where none was planted."""
        names = [[*MOTIFS][n] for n in rng.permutation(len(MOTIFS))[: 1 + int(rng.integers(2))]]
        words = [_copied(MOTIFS[name], rng) for name in names]
        length, share = int(rng.integers(80, 121)), rng.uniform(0.35, 0.65)
        while True:
            sequence = _planted(words, length, share, rng)
            if all(
                sequence.count(motif) == words.count(motif) for motif in MOTIFS.values()
            ):
                break
        article = "an" if names[0] == "E box" else "a"
        text = pick(rng, _ONE if len(names) == 1 else _TWO).format(
            first=names[0], second=names[-1], article=article
        )
        return {"genome": sequence, "text": text, "label": names[0], "motifs": ", ".join(names)}


def _copied(motif: str, rng: np.random.Generator) -> str:
    """Return the motif, one time in ten with a base changed, if it is long enough to bear that."""
    if len(motif) < 8 or rng.random() >= 0.1:
        return motif
    place = int(rng.integers(len(motif)))
    base = pick(rng, [base for base in "ACGT" if base != motif[place]])
    return motif[:place] + base + motif[place + 1 :]


def _planted(words: list[str], length: int, share: float, rng: np.random.Generator) -> str:
    """Return `length` bases, the words among them in order, the gaps of random lengths."""
    spare = length - sum(map(len, words))
    cuts = np.sort(rng.integers(spare + 1, size=len(words)))
    chances = np.array([1 - share, share, share, 1 - share]) / 2
    bases = "".join(np.array([*"ACGT"])[rng.choice(4, spare, p=chances)])
    parts, start = [], 0
    for cut, word in zip(cuts.tolist(), words, strict=True):
        parts += [bases[start:cut], word]
        start = cut
    return "".join([*parts, bases[start:]])
