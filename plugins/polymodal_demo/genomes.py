"""Random sequences with planted motifs."""

from typing import Any

import numpy as np

from polymodal_demo.generated import GeneratedSource, pick

MOTIFS = {
    "TATA box": "TATAAAAG",
    "CAAT box": "GGCCAATC",
    "octamer": "ATGCAAAT",
    "E box": "ACCACGTGGT",
    "poly-A signal": "AATAAAGC",
    "Kozak sequence": "GCCACCATGG",
}
_PLACES = ("near the start", "in the middle", "near the end")
_TEMPLATES = (
    "a sequence with a {motif} {place}",
    "{motif} {place}",
    "a {motif}, {place}, in {ground} DNA",
    "{ground} DNA with a {motif}",
)
_COPIES = 3
_MUTATED = 0.08  # share of a motif's bases that are changed


class Genomes(GeneratedSource):
    """DNA of about 100 bases with a motif planted in it, with captions.

    The background is random, rich in A and T or in G and C. One of six motifs (TATA box, CAAT
    box, octamer, E box, poly-A signal, Kozak sequence) stands in one third of the sequence, three
    times, 8 % of its bases mutated. Every other motif is there too, its bases shuffled, so that
    the composition of a sequence does not tell its motif. Captions name the motif, most also the
    third it stands in or what the background is rich in.

    What can be learned: the order of bases that makes a motif, wherever it stands and with a base
    wrong; the composition; and the words for both. Counts of single bases tell nothing of the
    motif.

    Fields: `genome` (A, C, G, T), `text`, `label` (the motif), `place`.

    Args:
        samples: how many.
        seed: of everything drawn.
    """

    fields = ("genome", "text", "label", "place")

    def __init__(self, *, samples: int = 3000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one sequence and its caption."""
        motif, place = pick(generator, list(MOTIFS)), int(generator.integers(3))
        rich = bool(generator.integers(2))
        strong = 0.3 if rich else 0.2  # chance of G, and of C
        chances = [0.5 - strong, strong, strong, 0.5 - strong]
        parts: list[list[str]] = [[], [], []]  # what stands in each third
        for _ in range(_COPIES):
            parts[place].append(_mutated(MOTIFS[motif], generator))
        for other, bases in MOTIFS.items():
            if other != motif:
                shuffled = "".join(generator.permutation(list(bases)))
                parts[int(generator.integers(3))].append(shuffled)
        sequence = "".join(_third(part, chances, generator) for part in parts)
        text = pick(generator, _TEMPLATES).format(
            motif=motif, place=_PLACES[place], ground="GC-rich" if rich else "AT-rich"
        )
        return {"genome": sequence, "text": text, "label": motif, "place": _PLACES[place]}


def _mutated(bases: str, generator: np.random.Generator) -> str:
    changed = generator.random(len(bases)) < _MUTATED
    others = generator.choice(list("ACGT"), len(bases))
    return "".join(o if c else b for b, c, o in zip(bases, changed, others, strict=True))


def _third(parts: list[str], chances: list[float], generator: np.random.Generator) -> str:
    """Return the parts in random order with random bases between."""
    generator.shuffle(parts)
    spare = max(0, 32 - sum(map(len, parts)))
    gaps = generator.multinomial(spare, np.full(len(parts) + 1, 1 / (len(parts) + 1)))
    letters = ["".join(generator.choice(list("ACGT"), gap, p=chances)) for gap in gaps]
    return letters[0] + "".join(p + g for p, g in zip(parts, letters[1:], strict=True))
