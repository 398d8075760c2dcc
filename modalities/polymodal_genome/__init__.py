"""genome: nucleotide sequences as bases, k-mers or learned pieces."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_genome.letters import reverse_complement
    from polymodal_genome.spec import GenomeSpec, reverse_complement_ids

polymodal_interface = 1

_HOME = {
    "GenomeSpec": "spec",
    "reverse_complement": "letters",
    "reverse_complement_ids": "spec",
}

__all__ = ["GenomeSpec", "reverse_complement", "reverse_complement_ids"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_genome' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_genome.{_HOME[name]}"), name)
    globals()[name] = value
    return value


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the sources, readers, tokenizers and encoders of genomes."""
    registry.source(
        "fasta", "polymodal_genome.fasta:Fasta", "records or windows of FASTA and FASTQ files"
    )
    registry.reader(
        "sequence", "polymodal_genome.sequence:SequenceReader", "strings and bytes of nucleotides"
    )
    registry.tokenizer("bases", "polymodal_genome.bases:Bases", "one token a base")
    registry.tokenizer("kmers", "polymodal_genome.kmers:Kmers", "k bases a token, at any stride")
    registry.tokenizer(
        "bpe", "polymodal_genome.byte_pairs:BaseBytePairs", "pieces of bases, learned or loaded"
    )
    registry.encoder(
        "transformer",
        "polymodal_genome.encoder:GenomeTransformer",
        "packed transformer with rotary positions; both strands if asked",
    )
    registry.encoder(
        "merging",
        "polymodal_genome.merging:MergingTransformer",
        "merges bases into words of any length, and reads the words (MergeDNA)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_genome.examples import examples

    return examples()
