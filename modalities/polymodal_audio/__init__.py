"""audio: sound as log-mel patches or raw frames."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_audio.sound import Waveform
    from polymodal_audio.spectrogram import decibels, mel_power

polymodal_interface = 1

_HOME = {"Waveform": "sound", "decibels": "spectrogram", "mel_power": "spectrogram"}

__all__ = ["Waveform", "decibels", "mel_power", "polymodal_interface", "polymodal_register"]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's components."""
    registry.reader(
        "sound", "polymodal_audio.sound:SoundReader", "files, bytes or arrays to one channel"
    )
    registry.tokenizer("mel", "polymodal_audio.mel:MelPatches", "log-mel spectrogram in patches")
    registry.tokenizer("waveform", "polymodal_audio.frames:WaveformFrames", "frames of raw samples")
    registry.encoder(
        "transformer",
        "polymodal:TransformerEncoder",
        "the packed transformer over patches or frames",
    )
    registry.encoder(
        "conv",
        "polymodal_audio.convolution:ConvolutionEncoder",
        "strided stem and depthwise convolutions over time (and frequency)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_audio.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_audio' has no attribute {name!r}")
    return getattr(import_module(f"polymodal_audio.{_HOME[name]}"), name)
