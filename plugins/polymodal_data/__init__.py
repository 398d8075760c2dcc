"""data: sources for the files people have."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's sources."""
    registry.source(
        "table", "polymodal_data.table:Table", "JSON, JSONL, CSV, TSV and Parquet files"
    )
    registry.source("text", "polymodal_data.text:Text", "lines, paragraphs or documents of text")
    registry.source(
        "addresses", "polymodal_data.addresses:Addresses", "the web addresses in text files"
    )
    registry.source(
        "folder",
        "polymodal_data.folder:Folder",
        "media files below a folder, with a metadata table",
    )
    registry.source(
        "tar", "polymodal_data.tar:Tar", "tars of media with a metadata table, or WebDataset shards"
    )
    registry.source(
        "hub", "polymodal_data.hub:Hub", "a Hugging Face dataset, by name or saved to disk"
    )
    registry.source("memory", "polymodal_data.memory:Memory", "rows written in the config itself")


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_data.examples import examples

    return examples()
