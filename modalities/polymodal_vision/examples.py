"""A small case of each component, for the conformance kit."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.testing import Example
from polymodal_vision.regions import RegionReader


def _pictures(*shapes: tuple[int, int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def _region_values() -> list[dict[str, Any]]:
    """Return the regions of three images; the second has none, the third no confidence."""
    generator = np.random.default_rng(0)
    found = []
    for count in (6, 0, 3):
        corner = generator.uniform(0, 40, (count, 2))
        found.append({
            "features": generator.standard_normal((count, 8)).astype(np.float32),
            "boxes": np.concatenate([corner, corner + 20], axis=1),
            "width": 64, "height": 60,
            "classes": generator.dirichlet(np.ones(4), count).astype(np.float32),
        })  # fmt: skip
    found[0]["confidence"] = generator.uniform(0, 1, 6).astype(np.float32)
    return found


def _open_clip_model(folder: Path) -> None:
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))


def examples() -> list[Example]:
    """Return pictures of several shapes, as arrays, and tiny untrained towers."""
    pictures = _pictures((40, 48), (32, 32), (33, 64), (50, 20))
    augment = {"crop": [0.5, 1.0], "flip": 0.5}
    square = {"use": "vision.patches", "size": 32, "patch": 16}
    encoder = partial(Example, kind="encoder", tokenizer=square, raws=pictures)
    found = _region_values()
    regions = [RegionReader()(each) for each in found]
    each_region = {"use": "vision.regions", "features": 8, "min_regions": 2, "max_regions": 5}
    return [
        Example(
            "vision.image", "reader",
            values=[*pictures, pictures[0][..., 0], pictures[0].astype(np.float32) / 255],
        ),
        Example(
            "vision.patches", "tokenizer",
            {"size": 32, "patch": 16, "augment": augment}, raws=pictures,
        ),
        Example(
            "vision.patches", "tokenizer",
            {"size": 32, "patch": 16, "augment": {**augment, "hue": 0.2}, "on_device": True},
            raws=pictures,
        ),
        Example("vision.patches", "tokenizer", {"max_tokens": 6, "patch": 16}, raws=pictures),
        Example("vision.region_set", "reader", values=found),
        Example(
            "vision.regions", "tokenizer",
            {"features": 8, "classes": 4, "min_regions": 2, "max_regions": 5}, raws=regions,
        ),
        *(
            Example(
                "vision.regions", "encoder", {"width": 32, "depth": depth, "heads": 2},
                tokenizer=each_region, raws=regions,
            )
            for depth in (0, 1)
        ),
        encoder("vision.vit", options={"width": 32, "depth": 1, "heads": 2}),
        encoder("vision.timm", options={"model": "test_vit"}),
        encoder(
            "vision.open_clip",
            options={"model": "local-dir:{folder}"},
            prepare=_open_clip_model,
        ),
    ]  # fmt: skip
