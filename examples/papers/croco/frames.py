"""Pairs of views from the films of video-clips: two frames of a clip, cut out some pixels apart.

    python examples/papers/croco/frames.py runs/croco_frames.parquet

A row: `view_1` and `view_2` (grey PNG, 32 x 32), `shift` ([down, right] of view 2 in pixels),
`unrelated` (view 2 of a row of another film), `film`, `clip`, and `split`.
"""

import argparse
import csv
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from polymodal_video.reader import ClipReader

DATA = Path(os.environ.get("POLYMODAL_DATA", "../shared/data"))
SIZE, PATCH = 32, 8
NEW_FILMS = ("toy_robot", "fruit")  # never trained on
LATER = 0.75  # of a film's clips, those after this share are never trained on
PLAIN, TRIES = 4, 400  # levels; a view is taken if half its patches deviate by more


def clips() -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield the film, the clip's number along it, and its frames in grey."""
    read = ClipReader()
    path = DATA / "video-clips/video-clips.tar"
    if not path.is_file():
        sys.exit(f"error: {path}: no such file; set POLYMODAL_DATA to the folder of the data sets")
    with tarfile.open(path) as tar:
        content = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        table = io.TextIOWrapper(content["metadata.csv"], "utf-8")
        for row in csv.DictReader(table):
            frames = read(content[row["file_name"]].read()).frames
            grey = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in frames])
            yield row["label"], int(row["source_clip"]), grey


def pair(
    frames: np.ndarray, gaps: tuple[int, int], reach: int, generator: np.random.Generator
) -> dict[str, Any] | None:
    """Return two views of a clip that show something, None if there are none to be found."""
    room = frames.shape[1] - SIZE - reach
    for _ in range(TRIES):
        gap = generator.integers(gaps[0], gaps[1] + 1)
        first = generator.integers(len(frames) - gap)
        one, other = generator.permutation([first, first + gap])
        top, left = generator.integers(reach, room + 1, size=2)
        down, right = generator.integers(-reach, reach + 1, size=2)
        view = frames[one, top : top + SIZE, left : left + SIZE]
        patches = view.reshape(SIZE // PATCH, PATCH, SIZE // PATCH, PATCH)
        if np.median(patches.std(axis=(1, 3))) > PLAIN:
            top, left = top + down, left + right
            second = frames[other, top : top + SIZE, left : left + SIZE]
            return {"view_1": png(view), "view_2": png(second), "shift": [int(down), int(right)]}
    return None


def png(view: np.ndarray) -> bytes:
    """Return a picture's file."""
    file = io.BytesIO()
    Image.fromarray(view).save(file, "png")
    return file.getvalue()


def main(out: Path, pairs: int, gaps: tuple[int, int], reach: int, seed: int) -> None:
    """Write the table."""
    generator = np.random.default_rng(seed)
    films: dict[str, list[tuple[int, np.ndarray]]] = {}
    for film, clip, frames in clips():
        films.setdefault(film, []).append((clip, frames))
    rows: list[dict[str, Any]] = []
    for film, found in films.items():
        for place, (clip, frames) in enumerate(sorted(found, key=lambda each: each[0])):
            later = place + 1 > max(LATER * len(found), 1)
            split = "test" if film in NEW_FILMS else "validation" if later else "train"
            drawn = (pair(frames, gaps, reach, generator) for _ in range(pairs))
            rows += [
                {"film": film, "clip": clip, "split": split, **views}
                for views in drawn
                if views is not None
            ]
    for row in rows:
        others = [
            each["view_2"]
            for each in rows
            if each["split"] == row["split"] and each["film"] != row["film"]
        ]
        row["unrelated"] = others[generator.integers(len(others))]
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), out)
    for split in ("train", "validation", "test"):
        kept = [row for row in rows if row["split"] == split]
        names = {film: sum(row["film"] == film for row in kept) for film in films}
        told = ", ".join(f"{film} {count}" for film, count in names.items() if count)
        print(f"{split}: {len(kept)} pairs ({told})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write pairs of views from video-clips.")
    parser.add_argument("out", type=Path, help="a .parquet")
    parser.add_argument("--pairs", type=int, default=80, help="of each clip, if it shows enough")
    parser.add_argument("--gaps", type=int, nargs=2, default=(1, 3), help="frames, from and to")
    parser.add_argument("--reach", type=int, default=2, help="pixels of shift at most each way")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.out, given.pairs, tuple(given.gaps), given.reach, given.seed)
