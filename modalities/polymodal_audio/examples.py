"""A small case of each component, for the conformance kit."""

from functools import partial

import numpy as np

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return short sounds of several lengths, and tiny encoders."""
    from polymodal_audio.sound import Waveform

    generator = np.random.default_rng(0)
    arrays = [
        (0.1 * generator.standard_normal(size) + np.sin(np.arange(size) * 0.2)).astype(np.float32)
        for size in (4000, 2500, 6000, 3200)
    ]
    sounds = [Waveform(array / 4, 8000) for array in arrays]
    mel = {
        "rate": 8000, "n_fft": 256, "hop": 80, "n_mels": 32, "seconds": 0.5, "patch": [16, 16],
    }  # fmt: skip
    augmented = {**mel, "crop": "random", "time_masks": 1, "time_width": 4,
                 "frequency_masks": 1, "frequency_width": 4}  # fmt: skip
    frames = {"rate": 8000, "frame": 400, "seconds": 0.5}
    values = [*arrays, {"array": arrays[0], "sampling_rate": 8000}]
    encoder = partial(Example, kind="encoder", tokenizer={"use": "audio.mel", **mel}, raws=sounds)
    return [
        Example("audio.sound", "reader", values=values),
        Example("audio.mel", "tokenizer", augmented, raws=sounds),
        Example("audio.mel", "tokenizer", {**augmented, "on_device": True}, raws=sounds),
        Example("audio.waveform", "tokenizer", {**frames, "crop": "random"}, raws=sounds),
        encoder("audio.transformer", options={"width": 32, "depth": 1, "heads": 2}),
        encoder("audio.conv", options={"width": 32, "depth": 2, "kernel": 3}),
        Example(
            "audio.conv", "encoder", {"width": 32, "depth": 1, "kernel": 3},
            tokenizer={"use": "audio.waveform", **frames}, raws=sounds,
        ),
    ]  # fmt: skip
