"""A small case of each component, for the conformance kit."""

from functools import partial

import numpy as np

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return clips of several lengths, as arrays, and tiny encoders."""
    from polymodal_video.clip import Clip

    generator = np.random.default_rng(0)
    arrays = [
        generator.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
        for frames, height, width in ((6, 32, 40), (4, 32, 32), (3, 48, 32), (1, 32, 32))
    ]
    clips = [Clip(frames, np.arange(len(frames)) / 10) for frames in arrays]
    tubelets = {"size": 32, "frames": 4, "tube": 2, "patch": 16}
    encoder = partial(
        Example, kind="encoder", tokenizer={"use": "video.tubelets", **tubelets}, raws=clips
    )
    return [
        Example("video.clip", "reader", values=arrays),
        Example(
            "video.tubelets", "tokenizer",
            {**tubelets, "sampling": "random", "augment": {"flip": 0.5}}, raws=clips,
        ),
        encoder("video.vit", options={"width": 32, "depth": 1, "heads": 2, "attention": "joint"}),
        encoder("video.vit", options={"width": 32, "depth": 1, "heads": 2, "attention": "divided"}),
        encoder("video.timm_frames", options={"model": "test_vit"}),
    ]  # fmt: skip
