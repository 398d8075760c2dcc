"""A run: a directory with everything one training left behind.

config.yaml        the config, resolved but for ${oc.env:...}, whose values may be secrets
data.json          rows and fingerprints of the data sources, to see on --resume that they changed
metrics.jsonl      a line each trainer.log_every steps
evaluation.json    scores, with chance and the same model untrained
scores.jsonl       a line each time they were taken, to see when each task was at its best
skipped.jsonl      records that could not be used, and why
checkpoints/       to go on from
model/             to use: weights, config, tokenizers, plugins and their versions
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from polymodal.config.references import with_references
from polymodal.config.shape import Config
from polymodal.ground.durable import beside, write_text
from polymodal.ground.errors import DataError, foreign
from polymodal.ground.locking import Lock
from polymodal.interfaces.evaluation import Score


class RunDirectory:
    """The files of a run, by what they are for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock = Lock(self.path / ".lock")

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the model lies."""
        return self.path / "model"

    @property
    def holds_run(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / "config.yaml").exists()

    def begin(self, config: Config, *, resume: bool = True) -> None:
        """Create the directory, keep other processes out of it, and write the config.

        Raises:
            DataError: it can't be written to, holds something else, or is in use; unless `resume`,
                it holds a run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._require_ours()
            if not self._lock.take():
                raise DataError(
                    f"{self.path} is in use: another process trains there. Wait for it, or choose "
                    "another --out"
                )
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(f"{self.path} is a file; choose another --out") from error
        except OSError as error:
            raise DataError(
                f"{self.path} can't be written to: {error.strerror}; choose another --out"
            ) from error
        self._require_ours()
        if self.holds_run and not resume:  # begun by another since we looked
            raise self.taken()
        write_text(self.path / "config.yaml", config_yaml(config))

    def _require_ours(self) -> None:
        left = {beside(self.path / "config.yaml"), self._lock.path}  # by a kill
        if not self.holds_run and set(self.path.iterdir()) - left:
            raise DataError(f"{self.path} is not empty and holds no run; choose another --out")

    def taken(self) -> DataError:
        """Return what to say where a run is and none may be."""
        return DataError(
            f"{self.path} holds another run; pass --resume to go on with it, or choose another "
            "--out"
        )

    def release(self) -> None:
        """Let other processes in."""
        self._lock.release()

    def append(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to a JSONL file."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line) + "\n")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the whole lines of a JSONL file; one cut short by a kill is left out."""
        path = self.path / name
        found = []
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.split("\n"):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found

    def cut(self, name: str, step: int) -> None:
        """Drop lines of a JSONL file written after a step: the run goes on from there."""

        def written_before(line: Mapping[str, Any]) -> bool:
            at = line.get("step", 0)  # of a damaged line, anything
            return isinstance(at, int | float) and at <= step

        kept = [line for line in self.lines(name) if written_before(line)]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        if (self.path / name).exists():
            write_text(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all."""
        write_text(self.path / name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file, None without one.

        Raises:
            DataError: it is damaged.
        """
        path = self.path / name
        return read_json(path) if path.exists() else None

    def data(self) -> dict[str, dict[str, Any]]:
        """Return what was recorded of each source when the run began, nothing without a run.

        Raises:
            DataError: the record is damaged.
        """
        found = self.read_json("data.json") if self.holds_run else None
        if found is None:
            return {}
        try:
            return {n: {"rows": r["rows"], **r} for n, r in found["sources"].items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise self._damaged("data.json", error) from error

    def untrained(self) -> dict[str, list[Score]] | None:
        """Return the scores before the first step, None where they were not measured.

        Raises:
            DataError: the record is damaged.
        """
        found = self.read_json("untrained.json")
        if found is None:
            return None
        try:
            return {name: [Score(**score) for score in each] for name, each in found.items()}
        except (TypeError, AttributeError) as error:
            raise self._damaged("untrained.json", error) from error

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(
            f"{self.path / name} is damaged: {foreign(error)}; remove it to go on without"
        )


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {foreign(error)}") from error


def config_values(config: Config) -> dict[str, Any]:
    """Return a config as plain values, its defaults written out."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return values


def config_yaml(config: Config) -> str:
    """Return a config as YAML, its defaults written out.

    What came from the environment stands there as `${oc.env:NAME}`: it may be a secret.
    """
    values = with_references(config_values(config), config)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
