"""video: clips from files, bytes or arrays, as tubelets; packed space-time and frame encoders.

PyAV is imported by `polymodal_video.pictures` alone. Its source is under BSD, but its wheels bundle
FFmpeg with x264 and x265, which are under the GPL: it belongs to the extra `polymodal[video]`, and
arrays need it not.

Public beside the components: `Clip`. Importing this module imports neither torch nor PyAV.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_video.clip import Clip

polymodal_interface = 1

_HOME = {"Clip": "clip"}

__all__ = ["Clip", "polymodal_register"]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's components."""
    registry.reader("clip", "polymodal_video.reader:ClipReader", "files, bytes, arrays to frames")
    registry.tokenizer(
        "tubelets", "polymodal_video.tubelets:Tubelets", "blocks of patches over some frames"
    )
    registry.encoder(
        "vit",
        "polymodal_video.vit:VideoTransformer",
        "packed transformer, joint or divided space-time attention",
    )
    registry.encoder(
        "timm_frames", "polymodal_video.timm_frames:TimmFrames", "any timm model on every frame"
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_video.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_video' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_video.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
