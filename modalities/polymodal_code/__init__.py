"""code: source files and functions as byte-level subwords."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the sources, readers, tokenizers and encoders of code."""
    registry.source(
        "files", "polymodal_code.files:CodeFiles", "the source files below a folder, one a row"
    )
    registry.source(
        "package",
        "polymodal_code.package:PackageFunctions",
        "functions and docstrings of installed Python packages or the standard library",
    )
    registry.reader("text", "polymodal_code.reader:CodeReader", "strings, bytes or files of code")
    registry.reader(
        "record", "polymodal_code.record:RecordReader", "code with its language and a text about it"
    )
    registry.tokenizer(
        "bpe", "polymodal_code.byte_pairs:CodeBytePairs", "byte-level BPE, learned or loaded"
    )
    registry.tokenizer(
        "dataflow",
        "polymodal_code.flow_tokens:DataFlowTokens",
        "a text, code and the nodes of its data flow, in six languages (GraphCodeBERT)",
    )
    registry.reader(
        "diff", "polymodal_code.diff:DiffReader", "unified diffs, with the file they change"
    )
    registry.tokenizer(
        "diff",
        "polymodal_code.diff_tokens:DiffTokenizer",
        "byte-level BPE of changed lines, each with its tag, and of comments",
    )
    registry.encoder(
        "transformer",
        "polymodal:TransformerEncoder",
        "packed transformer over token ids",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_code.examples import examples

    return examples()
