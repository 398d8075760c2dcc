"""From files to a step's batch, mixed and shuffled, against only decoding the same files.

    python -m benchmarks.data_path

JPEG images and FLAC sounds of two sources are drawn in random order, read, tokenized and packed;
the floor is Pillow and soundfile decoding the same files in the order they were written, and
Pillow's resizing where images are resized. The ratio is the share of the floor's throughput that
reaches the step. Both sides have one thread and no workers; what tokenizers leave to the training
device (`on_device`) is not part of it.
"""

import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image

from benchmarks.ratio import Ratio, compare, write
from polymodal.config.reading import check_config
from polymodal.training.train import Training

FILES, RATE, SECONDS = 64, 16_000, 2.0
HEIGHT, WIDTH = 384, 512
BATCH, BATCHES = 32, 4


def write_files(folder: Path) -> dict[str, list[Path]]:
    """Write images and sounds that compress about as photographs and music do."""
    generator = np.random.default_rng(0)
    found: dict[str, list[Path]] = {"image": [], "sound": []}
    for number in range(FILES):
        coarse = generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        blurred = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        smooth = np.asarray(blurred)
        grain = generator.normal(0, 6, smooth.shape)
        image = folder / f"{number}.jpg"
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(image, quality=90)
        found["image"].append(image)
        tone = np.sin(np.cumsum(generator.uniform(0.02, 0.4, int(RATE * SECONDS))))
        sound = folder / f"{number}.flac"
        soundfile.write(sound, 0.4 * tone + generator.normal(0, 0.02, tone.shape), RATE)
        found["sound"].append(sound)
    for name, paths in found.items():
        lines = [json.dumps({name: str(path)}) + "\n" for path in paths]
        (folder / f"{name}s.jsonl").write_text("".join(lines))
    return found


def training(folder: Path, patches: dict[str, Any], out: str) -> Training:
    small = {"width": 16, "depth": 1, "heads": 2}
    config = check_config(
        {
            "streams": {
                "image": {
                    "tokenizer": {
                        "use": "vision.patches", "patch": 16, "on_device": True, **patches,
                    },
                    "encoder": {"use": "vision.vit", **small},
                },
                "sound": {
                    "reader": {"use": "audio.sound", "rate": RATE},
                    "tokenizer": {
                        "use": "audio.mel", "rate": RATE, "seconds": SECONDS, "on_device": True,
                    },
                    "encoder": {"use": "audio.transformer", **small},
                },
            },
            "objectives": {
                name: {"use": "masking.simmim", "stream": name} for name in ("image", "sound")
            },
            "data": {
                "sources": {
                    name: {"use": "data.table", "path": str(folder / f"{name}s.jsonl")}
                    for name in ("image", "sound")
                },
                "batch_size": BATCH,
            },
            "trainer": {"max_steps": 10**6, "device": "cpu"},
        }
    )  # fmt: skip
    return Training(config, folder / out, quiet=True)


def measure(folder: Path, files: dict[str, list[Path]], size: int | None) -> Ratio:
    """Measure with images as they are, or with random boxes of them resized to `size`."""
    patches: dict[str, Any] = {"size": (HEIGHT, WIDTH)}
    if size is not None:
        patches = {"size": size, "augment": {"crop": (0.5, 1.0)}}
    run = training(folder, patches, str(size))
    assert BATCH * BATCHES == 2 * FILES  # an epoch: each file once on both sides
    side = 0.75**0.5  # a box of what random ones have on average
    box = (0, 0, round(side * WIDTH), round(side * HEIGHT))

    def ours() -> None:
        for _ in itertools.islice(run.batches(), BATCHES):
            pass

    def floor() -> None:
        for image in files["image"]:
            with Image.open(image) as opened:
                picture = opened.convert("RGB")
            if size is not None:
                picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
            np.asarray(picture)
        for sound in files["sound"]:
            soundfile.read(sound, dtype="float32")

    resized = "" if size is None else f", images cut and resized to {size}"
    name = f"decoding alone / files to a mixed, shuffled batch{resized}"
    return compare(name, floor, ours, clock=time.process_time)


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        files = write_files(Path(name))
        found = [measure(Path(name), files, size) for size in (None, 224)]
    write("data_path", found)
    return found


if __name__ == "__main__":
    main()
