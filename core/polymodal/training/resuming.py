"""What must be the same when a run is resumed: the config it began with, and the data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymodal.config.shape import Config
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import DataError

# What may differ: nothing that changes what has been learnt so far. A lower rate is what helps a
# run whose loss went astray.
_FREE = {"trainer", "optimizer", "evaluate", "trackers"}
_FREE_OF_DATA = {"workers", "prefetch", "max_skipped"}


def require_same_config(old: Config, new: Config, directory: Path) -> None:
    """Refuse to go on with another config.

    Raises:
        DataError: which section differs.
    """
    for name in type(new).model_fields:
        one, other = getattr(old, name), getattr(new, name)
        if name == "data":
            one, other = (each.model_dump(exclude=_FREE_OF_DATA) for each in (one, other))
        if name not in _FREE and one != other:
            raise DataError(
                f"{directory} holds a run with another {name!r}; resume it with the config it was "
                "started with, or choose another --out"
            )


def records(sources: Mapping[str, SplitSource]) -> dict[str, dict[str, Any]]:
    """Return what tells each source's data from other data."""
    return {name: source.record() for name, source in sources.items()}


def changes(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return which sources hold other data than before, a sentence each."""
    found = []
    for name, record in new.items():
        before = old.get(name)
        if before is None:
            continue
        if before["rows"] != record["rows"]:
            found.append(
                f"source {name!r} has {record['rows']} rows, but had {before['rows']} when the run "
                "began"
            )
        elif None not in (known := (before.get("fingerprint"), record["fingerprint"])) and (
            known[0] != known[1]
        ):
            found.append(f"source {name!r} holds other data than when the run began")
    return found


def require_same_data(changed: list[str]) -> None:
    """Refuse to go on with other data.

    Raises:
        DataError: which sources changed, and what to do.
    """
    if changed:
        raise DataError(
            f"{'; '.join(changed)}. Bring the old data back, begin a new run (--out), or set "
            "trainer.changed_data=true: the rest of the run then draws from the new data, in an "
            "order of its own"
        )
