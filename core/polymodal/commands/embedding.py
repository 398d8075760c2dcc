"""Embedding files, table rows or values from the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polymodal.data.splits import SplitSource
from polymodal.ground.device import choose_device
from polymodal.ground.durable import replacing
from polymodal.ground.errors import DataError, UnreadableError, nearest
from polymodal.interfaces.source import Sample, Source
from polymodal.plugins.discovery import installed
from polymodal.runs.run import load, read_run_values


def embed_to_parquet(
    run: Path,
    stream: str,
    files: Sequence[str],
    out: Path,
    *,
    field: str | None = None,
    values: Sequence[str] = (),
    objective: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a row (name, vector) for each file, table row or value that can be read.

    Files named here may lie anywhere; paths in a table's rows below its folder, or those allowed.

    Returns:
        How many rows were written, their width, and what was skipped, with reasons.

    Raises:
        DataError: nothing to embed, nothing readable, a name that does not exist, or a disk that
            is full; then a file that was there before is kept.
    """
    config = read_run_values(run)
    if stream not in config["streams"]:
        hint = nearest(stream, config["streams"])
        raise DataError(f"--stream: no stream is called {stream!r}.{hint}")
    if objective is not None and objective not in config["objectives"]:
        hint = nearest(objective, config["objectives"])
        raise DataError(f"--objective: no objective is called {objective!r}.{hint}")
    if not files and not values:
        raise DataError("nothing to embed: name files, a table with --field, or give --value")
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        folder = Path(missing[0]).parent
        hint = (
            nearest(Path(missing[0]).name, [p.name for p in folder.iterdir()])
            if (folder.is_dir())
            else ""
        )
        raise DataError(f"{missing[0]}: no such file.{hint}")
    if out.is_dir():
        raise DataError(f"--out: {out} is a directory; name a file in it")
    names, found, folders = _values(files, field, values, allow)
    # Without an objective the rest of the run is not needed, and its plugins may be missing.
    streams = [stream] if objective is None else None
    loaded = load(run, device=str(choose_device(device)), streams=streams)
    probe = loaded.probe(batch_size=batch_size)
    own = 0 if field is None else len(found) - len(values)  # those from a table come first
    found = [
        probe.confined(stream, value, folders) if number < own else value
        for number, value in enumerate(found)
    ]
    vectors, reasons = probe.encode_readable(stream, found, objective=objective)
    kept = [number for number in range(len(found)) if number not in reasons]
    skipped = [(names[number], reason) for number, reason in reasons.items()]
    if not kept:
        raise DataError(
            f"none of {len(found)} could be read; the first, {skipped[0][0]}: {skipped[0][1]}"
        )
    table = pa.table(
        {
            "name": [names[n] for n in kept],
            "vector": pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.reshape(-1).astype(np.float32)), vectors.shape[1]
            ),
        }
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        pq.write_table(table, partial)
    return {"rows": len(kept), "width": int(vectors.shape[1]), "out": str(out), "skipped": skipped}


def _values(
    files: Sequence[str], field: str | None, values: Sequence[str], allow: Sequence[str]
) -> tuple[list[str], list[Any], Sequence[str | Path] | None]:
    """Return names, what to embed by each, and where rows of a table may name files.

    Where there is nothing, an UnreadableError stands.
    """
    if field is None:
        # A Path, since a reader may take a string for the text itself.
        return [*files, *values], [*map(Path, files), *values], None
    table = installed().find("data.table", "source").load()
    source = table(path=list(files), allow=list(allow))
    assert isinstance(source, Source)
    if field not in source.columns():
        raise DataError(f"--field: no column {field!r}.{nearest(field, source.columns())}")
    rows = SplitSource("table", source).read("train", range(len(source)))
    found = [row if isinstance(row, UnreadableError) else _field(row, field) for row in rows]
    return [*map(str, range(len(rows))), *values], [*found, *values], source.folders()


def _field(row: Sample, field: str) -> Any:
    value = row.get(field)
    return UnreadableError(f"it has no {field!r}") if value is None else value
