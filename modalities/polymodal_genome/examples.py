"""A small case of each component, for the conformance kit."""

from pathlib import Path

from polymodal.testing import Example

SEQUENCES = ("ACGTACGTTAGC", "ACGTNNACG", "TTTTTTTTTTTTTTTT", "ACG", "GATTACAGATTACA")


def _fasta(folder: Path) -> None:
    records = [f">record{n} sample\n{bases}\n" for n, bases in enumerate(SEQUENCES)]
    (folder / "some.fa").write_text("".join(records))


def examples() -> list[Example]:
    """Return short sequences, read from both strands."""
    bases = list(SEQUENCES)
    both = {"reverse_complement": 0.5, "max_tokens": 12}
    short = {"use": "genome.bases", "max_tokens": 12}
    merging = {"width": 32, "local_depth": 2, "depth": 1, "heads": 2, "window": 4}
    return [
        Example("genome.fasta", "source", {"files": ["{folder}/some.fa"]}, prepare=_fasta),
        Example("genome.sequence", "reader", values=[*bases, b"acgt"]),
        Example("genome.bases", "tokenizer", both, raws=bases),
        Example("genome.kmers", "tokenizer", {"k": 3, **both}, raws=bases),
        Example("genome.bpe", "tokenizer", {"vocabulary_size": 32, **both}, raws=bases),
        Example(
            "genome.transformer", "encoder", {"width": 32, "depth": 1, "heads": 2},
            tokenizer=short, raws=bases,
        ),
        Example(
            "genome.transformer", "encoder",
            {"width": 32, "depth": 1, "heads": 2, "reverse_complement": "average"},
            tokenizer=short, raws=bases,
            skip={"stem_and_trunk": "the other strand is read where the ids are known, in forward"},
        ),
        *(Example("genome.merging", "encoder", {**merging, **options}, tokenizer=short, raws=bases)
          for options in ({}, {"pairs": "window", "soft_merge": False})),
    ]  # fmt: skip
