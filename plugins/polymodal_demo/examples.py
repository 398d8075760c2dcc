"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example

NAMES = (
    "digits", "moving_digits", "scenes", "texture_pairs", "sounds", "graphs", "genomes",
    "functions", "edits", "galaxies", "repeats", "reviews", "urls",
)  # fmt: skip


def examples() -> list[Example]:
    """Return each source with a few samples."""
    return [
        *(Example(f"demo.{name}", "source", {"samples": 12}) for name in NAMES),
        Example("demo.plain_digits", "source"),
        Example("demo.blocks", "source", {"size": 5, "parts": 3, "test_edges": 0.2}),
    ]
