"""The recipes of papers, read from their folders: `paper.yaml` says what each one shows."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from polymodal.ground.errors import DataError
from polymodal.plugins.origin import load_yaml

_FILE = "paper.yaml"


@dataclass(frozen=True)
class Paper:
    """A recipe: what the paper claims, what was shown here, and how to repeat it."""

    slug: str
    title: str
    reference: str  # authors, year, where
    claim: str
    status: str  # what the measured table says of the claim, in a few words
    command: str

    def as_json(self) -> dict[str, Any]:
        """Return its fields as JSON values."""
        return asdict(self)


def find_papers(folder: Path | None = None) -> list[Paper]:
    """Return the recipes below a folder, by slug: `examples/papers` here or in the checkout.

    Raises:
        DataError: no such folder, or a `paper.yaml` that lacks something.
    """
    checkout = Path(__file__).parents[3] / "examples" / "papers"
    here = Path("examples") / "papers"
    folder = folder or (here if here.is_dir() else checkout)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; the recipes are in the source repository")
    found = []
    for file in sorted(folder.glob(f"*/{_FILE}")):
        values = load_yaml(file)
        try:
            found.append(
                TypeAdapter(Paper).validate_python({"slug": file.parent.name, **(values or {})})
            )
        except (ValidationError, TypeError) as error:
            first = " ".join(str(error).split())
            raise DataError(f"{file}: {first}") from error
    return found
