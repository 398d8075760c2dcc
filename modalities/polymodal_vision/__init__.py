"""vision: images as patches or as sets of regions; a packed ViT, timm and open_clip towers.

Public beside the components: `Augmentation`, `Framing`, `whole_patches`, `PatchSpec`,
`Normalization`, `MeanStd`, `STATISTICS`, `to_rgb`, `to_levels`, `check_picture`, `held`,
`patch_rows`, `frames_of_rows`, `normalize`, `denormalize`, `RegionSet`, `TimmTower`.
They load on first use; importing this module imports neither torch nor Pillow.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_vision.augmentation import Augmentation
    from polymodal_vision.framing import Framing, whole_patches
    from polymodal_vision.geometry import Interpolation, ResizeMode
    from polymodal_vision.image import check_picture, to_rgb
    from polymodal_vision.levels import to_levels
    from polymodal_vision.patching import (
        STATISTICS,
        MeanStd,
        Normalization,
        PatchSpec,
        denormalize,
        frames_of_rows,
        normalize,
        patch_rows,
    )
    from polymodal_vision.regions import RegionSet
    from polymodal_vision.timm_tower import TimmTower

polymodal_interface = 1

_HOME = {
    "Augmentation": "augmentation",
    "Framing": "framing", "whole_patches": "framing",
    "Interpolation": "geometry", "ResizeMode": "geometry",
    "check_picture": "image", "to_rgb": "image",
    "to_levels": "levels",
    "STATISTICS": "patching", "MeanStd": "patching", "Normalization": "patching",
    "PatchSpec": "patching", "denormalize": "patching", "frames_of_rows": "patching",
    "normalize": "patching", "patch_rows": "patching",
    "RegionSet": "regions",
    "TimmTower": "timm_tower",
}  # fmt: skip

__all__ = [
    "STATISTICS", "Augmentation", "Framing", "Interpolation", "MeanStd", "Normalization",
    "PatchSpec", "RegionSet", "ResizeMode", "TimmTower", "check_picture", "denormalize",
    "frames_of_rows", "normalize", "patch_rows", "polymodal_register", "to_levels",
    "to_rgb", "whole_patches",
]  # fmt: skip


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's components."""
    registry.reader("image", "polymodal_vision.image:ImageReader", "files, bytes, arrays to RGB")
    registry.reader(
        "region_set",
        "polymodal_vision.regions:RegionReader",
        "mappings and .npz files to regions with boxes",
    )
    registry.tokenizer(
        "patches",
        "polymodal_vision.patches:Patches",
        "square patches of one size or at native aspect ratio",
    )
    registry.tokenizer(
        "regions", "polymodal_vision.regions:Regions", "regions of an image, with their boxes"
    )
    registry.encoder(
        "regions",
        "polymodal_vision.region_encoder:RegionEncoder",
        "features and boxes, each projected and normalised, added up; blocks if asked",
    )
    registry.encoder("vit", "polymodal:TransformerEncoder", "packed Vision Transformer")
    registry.encoder(
        "timm", "polymodal_vision.timm_encoder:TimmEncoder", "any timm model, trained or not"
    )
    registry.encoder(
        "open_clip",
        "polymodal_vision.open_clip_encoder:OpenClipEncoder",
        "the visual tower of any open_clip model, trained or not",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_vision.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_vision' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_vision.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
