"""A small case of each component, for the conformance kit."""

import json
from functools import partial
from pathlib import Path

import numpy as np

from polymodal.testing import Example


def _pictures(*shapes: tuple[int, int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


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
    return [
        Example(
            "vision.image", "reader",
            values=[*pictures, pictures[0][..., 0], pictures[0].astype(np.float32) / 255],
        ),
        Example(
            "vision.patches", "tokenizer",
            {"size": 32, "patch": 16, "augment": augment}, raws=pictures,
        ),
        Example("vision.patches", "tokenizer", {"max_tokens": 6, "patch": 16}, raws=pictures),
        encoder("vision.vit", options={"width": 32, "depth": 1, "heads": 2}),
        encoder("vision.timm", options={"model": "test_vit"}),
        encoder(
            "vision.open_clip",
            options={"model": "local-dir:{folder}"},
            prepare=_open_clip_model,
        ),
    ]  # fmt: skip
