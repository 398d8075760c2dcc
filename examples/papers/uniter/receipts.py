"""Samples of scanned receipts: five lines of a page as regions, and their first words as a caption.

POLYMODAL_DATA=data python examples/papers/uniter/receipts.py runs/receipts.parquet
python examples/papers/uniter/receipts.py runs/receipts.parquet --baseline
"""

import argparse
import io
import json
import os
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

DATA = Path(os.environ.get("POLYMODAL_DATA", "../shared/data")) / "receipts" / "receipts.tar"
LINES = 5  # of a sample
HEIGHT, WIDTH = 16, 48  # of what is seen of a line, in pixels: its start, scaled to this height
CELL, DIRECTIONS = 4, 8  # pixels a side, and directions told apart in each cell
SHAKE = 2  # pixels that the edges of a box move at most, as a detector's would
MARGIN = 0.2  # of a page's side that may be added around it, so that places are not known by heart
VALIDATION = 0.25  # of the pages
COMMON = 20  # training pages that a word begins a line of, at least; other lines are left out


def pages(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what is noted of each page, and its image as "image"."""
    with tarfile.open(path) as archive:
        for noted in _file(archive, "annotations.jsonl").splitlines():
            page = json.loads(noted)
            page["image"] = Image.open(io.BytesIO(_file(archive, page["file_name"]))).convert("L")
            yield page


def _file(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, f"{name} is a folder"
    return file.read()


def first_word(text: str) -> str:
    """Return the first run of letters or digits, in lower case; a number up to its point."""
    found = re.search(r"[a-z0-9]+", text.lower())
    return found.group() if found else ""


def shaken(box: list[int], page: Image.Image, generator: np.random.Generator) -> list[int]:
    """Return a box with its edges moved a little, in the page and with something in it."""
    x0, y0, x1, y1 = np.add(box, generator.integers(-SHAKE, SHAKE + 1, 4)).tolist()
    x0, y0 = (max(0, min(low, side - 4)) for low, side in zip((x0, y0), page.size, strict=True))
    return [x0, y0, min(page.width, max(x1, x0 + 4)), min(page.height, max(y1, y0 + 4))]


def features(page: Image.Image, box: list[int]) -> np.ndarray:
    """Return a line's features: how much ink changes in each direction, in cells of its start."""
    x0, y0, x1, y1 = box
    seen = min(x1 - x0, round((y1 - y0) * WIDTH / HEIGHT))
    across = max(1, min(WIDTH, round(seen * HEIGHT / (y1 - y0))))
    start = page.crop((x0, y0, x0 + seen, y1)).resize((across, HEIGHT), Image.Resampling.BILINEAR)
    grey = np.asarray(start, dtype=float)
    ink = np.zeros((HEIGHT, WIDTH))  # a short line is followed by empty paper
    ink[:, :across] = (np.median(grey) - grey) / (grey.std() + 10)
    down, right = np.gradient(ink)
    turn = np.arctan2(down, right) / (2 * np.pi) * DIRECTIONS % DIRECTIONS
    lower = turn.astype(int) % DIRECTIONS
    strength = np.hypot(down, right)
    found = np.zeros((DIRECTIONS, HEIGHT, WIDTH))
    rows, columns = np.indices(ink.shape)
    found[lower, rows, columns] = strength * (1 - turn % 1)
    found[(lower + 1) % DIRECTIONS, rows, columns] += strength * (turn % 1)
    cells = found.reshape(DIRECTIONS, HEIGHT // CELL, CELL, WIDTH // CELL, CELL).sum(axis=(2, 4))
    roots = np.sqrt(cells).ravel()
    return (roots - roots.mean()) / (roots.std() + 0.1)


def shop(page: dict[str, Any]) -> str:
    """Return which shop, or chain of shops, a page is of: the first word of its name."""
    return first_word(page["fields"]["company"])


def common_words(found: list[dict[str, Any]]) -> set[str]:
    """Return the words that begin a line on enough of these pages."""
    counts = Counter(
        word for page in found for word in {first_word(line["text"]) for line in page["lines"]}
    )
    return {word for word, count in counts.items() if word and count >= COMMON}


def sample(page: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    """Return five lines of a page as regions, and their first words in an order of their own."""
    picked = [page["lines"][row] for row in generator.permutation(len(page["lines"]))[:LINES]]
    words = [first_word(line["text"]) for line in picked]
    caption = [words[place] for place in generator.permutation(len(words))]
    boxes = [shaken(line["box"], page["image"], generator) for line in picked]
    seen = np.array([features(page["image"], box) for box in boxes])
    # The page lies somewhere in a larger one.
    width, height = np.array(page["image"].size) * (1 + MARGIN * generator.random())
    corner = generator.random(2) * (width - page["width"], height - page["height"])
    place = {"boxes": np.tile(corner, 2) + boxes, "width": width, "height": height}
    return {
        "text": " ".join(caption),
        "regions": packed(features=seen.astype(np.float32), **place),
        "blank": packed(features=np.zeros(seen.shape, np.float32), **place),
        "partners": [[row for row, other in enumerate(words) if other == word] for word in caption],
        "page": page["file_name"],
    }


def packed(**arrays: Any) -> bytes:
    """Return the content of an .npz file, as `vision.region_set` reads it."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def write(path: Path, *, samples: int, seed: int) -> None:
    """Write so many samples of each page."""
    generator = np.random.default_rng(seed)
    found = list(pages(DATA))
    validation = generator.permutation(len(found))[: round(VALIDATION * len(found))].tolist()
    training = [page for row, page in enumerate(found) if row not in validation]
    words, shops = common_words(training), {shop(page) for page in training}
    rows = []
    for row, page in enumerate(found):
        page["lines"] = [line for line in page["lines"] if first_word(line["text"]) in words]
        split = "validation" if row in validation else "train"
        known = {"split": split, "shop": "known" if shop(page) in shops else "new"}
        if len(page["lines"]) >= LINES:
            count = samples if split == "train" else samples // 3
            rows += [{**sample(page, generator), **known} for _ in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    new = sum(shop(found[row]) not in shops for row in validation)
    held = f"{len(validation)} of {len(found)} pages held out, {new} of shops not trained on"
    print(f"{path}: {len(rows)} samples of {len(words)} words, {held}")


def baseline(path: Path) -> None:
    """Print how far validation gets without a model: by chance, or by lengths and widths."""
    chance, ranked = [], []
    counts = {split: Counter[str]() for split in ("train", "validation")}
    for row in pq.read_table(path).to_pylist():
        caption = row["text"].split()
        counts[row["split"]].update(caption)
        if row["split"] == "validation":
            x0, _, x1, _ = np.load(io.BytesIO(row["regions"]))["boxes"].T
            words = np.argsort([len(word) for word in caption], kind="stable")
            for word, region in zip(words, np.argsort(x1 - x0, kind="stable"), strict=True):
                ranked.append(region in row["partners"][word])
                chance.append(len(row["partners"][word]) / LINES)
    common = counts["train"].most_common(1)[0][0]
    share = counts["validation"][common] / counts["validation"].total()
    print(f"words: always {common!r}, the commonest of training: {share:.3f}")
    print(f"alignment: a region at random {np.mean(chance):.3f}, ", end="")
    print(f"the longer a word the wider its box {np.mean(ranked):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the file to make, .parquet")
    parser.add_argument("--samples", type=int, default=120, help="of a page; held out, a third")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn")
    parser.add_argument("--baseline", action="store_true", help="score the file without a model")
    arguments = parser.parse_args()
    needed = arguments.out if arguments.baseline else DATA
    if not needed.is_file():
        sys.exit(f"{needed} is not there; " + ("make it first" if arguments.baseline else
                 "POLYMODAL_DATA must name the folder that has receipts/receipts.tar"))  # fmt: skip
    if arguments.baseline:
        baseline(arguments.out)
    else:
        write(arguments.out, samples=arguments.samples, seed=arguments.seed)


if __name__ == "__main__":
    main()
