"""Region sets: what a detector found in an image, a token a region."""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped

from polymodal import Layout, Reader, Tokenizer, Tokens, TokenSpec, UnreadableError, bytes_or_path

BOX_NUMBERS = 7
CLASSES = "classes"
"""The channel of soft labels, [token, class], background first."""


def box_numbers(
    boxes: Shaped[np.ndarray, "region 4"], width: float, height: float
) -> Float[np.ndarray, "region 7"]:
    """Return (x1, y1, x2, y2, w, h, area) of boxes in pixels, as shares of the image's.

    UNITER, section 3.1. What lies outside of the image is cut off.
    """
    x1, x2 = (np.clip(boxes[:, i], 0, width) / width for i in (0, 2))
    y1, y2 = (np.clip(boxes[:, i], 0, height) / height for i in (1, 3))
    w, h = x2 - x1, y2 - y1
    return np.stack([x1, y1, x2, y2, w, h, w * h], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class RegionSet:
    """The regions of one image; build one with `RegionSet.of`, which checks it."""

    features: Float[np.ndarray, "region feature"]
    boxes: Float[np.ndarray, "region 7"]  # see `box_numbers`
    confidence: Float[np.ndarray, " region"] | None = None
    classes: Float[np.ndarray, "region class"] | None = None  # soft labels, background first

    @classmethod
    def of(
        cls,
        features: Any,
        boxes: Any,
        *,
        width: float,
        height: float,
        confidence: Any = None,
        classes: Any = None,
    ) -> "RegionSet":
        """Return regions with boxes (x1, y1, x2, y2) in pixels of an image of this size.

        Raises:
            ValueError: which part does not fit, or holds no numbers.
        """
        if not (width > 0 and height > 0):
            raise ValueError(f"width and height must be above 0, got {width} and {height}")
        rows = _numbers("features", features, 2)
        corners = _numbers("boxes", boxes, 2, rows=len(rows))
        if len(corners) and corners.shape[1] != 4:
            raise ValueError(f"boxes must be [region, 4], got {list(corners.shape)}")
        corners = corners.reshape(-1, 4)
        if (corners[:, 2:] < corners[:, :2]).any():
            raise ValueError("boxes must be (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2")
        return cls(
            rows,
            box_numbers(corners, width, height),
            None if confidence is None else _numbers("confidence", confidence, 1, rows=len(rows)),
            None if classes is None else _numbers("classes", classes, 2, rows=len(rows)),
        )

    def __len__(self) -> int:
        return len(self.features)


def _numbers(name: str, value: Any, dims: int, *, rows: int | None = None) -> np.ndarray:
    array = np.asarray(value)
    if array.size == 0:
        array = array.reshape(0, *array.shape[1:dims], *[0] * (dims - max(array.ndim, 1)))
    if array.ndim != dims or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must be numbers in {dims} dimensions, got {array.dtype} {list(array.shape)}"
        )
    if rows is not None and len(array) != rows:
        raise ValueError(f"{name} has {len(array)} rows for {rows} regions")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return array


class RegionReader(Reader):
    """Reads the regions of an image from a mapping, or from an .npz file with the same keys.

    Keys: "features" [region, feature]; "boxes" [region, 4], (x1, y1, x2, y2) in pixels; "width"
    and "height" of the image; and, if there are any, "confidence" [region] and "classes"
    [region, class], soft labels with the background in column 0. A file is a path, bytes, or
    `{"path", "bytes"}`.

    Args:
        max_bytes: a file whose arrays unpack to more is refused before they are unpacked.

    Raises:
        ValueError: `max_bytes` below 1.
    """

    strings_are_paths = True

    def __init__(self, *, max_bytes: int = 2**28):
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        self.max_bytes = max_bytes

    def __call__(self, value: Any) -> RegionSet:
        """Return the regions.

        Raises:
            UnreadableError: what is missing or does not fit.
        """
        if isinstance(value, RegionSet):
            return value
        try:
            if not isinstance(value, Mapping) or {"path", "bytes"} >= set(value):
                value = _loaded(value, self.max_bytes)
            missing = [k for k in ("features", "boxes", "width", "height") if k not in value]
            if missing:
                raise ValueError(f"regions need {missing[0]!r}; there are {sorted(value)}")
            return RegionSet.of(
                value["features"],
                value["boxes"],
                width=float(value["width"]),
                height=float(value["height"]),
                confidence=value.get("confidence"),
                classes=value.get(CLASSES),
            )
        except (ValueError, TypeError, OverflowError, OSError) as error:
            raise UnreadableError(str(error)) from None


def _loaded(value: Any, max_bytes: int) -> Mapping[str, np.ndarray]:
    value = bytes_or_path(value, "regions")
    if isinstance(value, bytes):
        value = io.BytesIO(value)
    elif not isinstance(value, Path):
        raise ValueError(f"regions must be a mapping or an .npz file, got {type(value).__name__}")
    try:
        with zipfile.ZipFile(value) as archive:
            return _members(archive, max_bytes)
    except (UnreadableError, FileNotFoundError):
        raise
    except Exception as error:  # zip, zlib, tokenizer and struct errors: damage of any kind
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise ValueError(f"not an .npz file of arrays: {reason}") from None


def _members(archive: zipfile.ZipFile, max_bytes: int) -> Mapping[str, np.ndarray]:
    """Return the arrays of an .npz file, whose headers are held against what is there."""
    found = {}
    size = sum(member.file_size for member in archive.infolist())
    if size > max_bytes:
        raise UnreadableError(f"the .npz file unpacks to {size} bytes, more than {max_bytes}")
    for member in archive.infolist():
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0}
            read[2, 0] = np.lib.format.read_array_header_2_0
            shape, _, dtype = read[version](stream)
            needed = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError(f"{member.filename} holds Python objects")
            if min(shape, default=0) < 0 or needed > member.file_size:
                raise ValueError(
                    f"{member.filename} claims {needed} bytes, but has {member.file_size}"
                )
        with archive.open(member) as stream:
            name = member.filename.removesuffix(".npy")
            found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return found


class Regions(Tokenizer):
    """Tokens of a region set: values are the features, positions the seven numbers of the box.

    The numbers are (x1, y1, x2, y2, w, h, area) as shares of the image's (UNITER, Chen et al.,
    2020, section 3.1). Where regions have a confidence, those above the bound are kept, the
    surest first to count; the order stays. Soft labels are the channel "classes" [token, class]:
    a target, never an input.

    Args:
        features: values a region.
        classes: columns of the soft labels, background first; 0: they are not used.
        confidence: keep regions above this.
        min_regions: but at least so many of an image that has them.
        max_regions: and at most so many; of regions without confidence, the first.

    Raises:
        ValueError: a number out of range.
    """

    reader = "vision.region_set"

    def __init__(
        self,
        *,
        features: int,
        classes: int = 0,
        confidence: float = 0.2,
        min_regions: int = 10,
        max_regions: int = 100,
    ):
        if features < 1 or classes < 0:
            raise ValueError(
                f"features must be 1 or more and classes 0 or more, got {features} and {classes}"
            )
        if not 0 <= min_regions <= max_regions or max_regions < 1:
            raise ValueError(
                f"min_regions must be 0 to max_regions, and max_regions 1 or more, got "
                f"{min_regions} and {max_regions}"
            )
        self.features = features
        self.classes = classes
        self.confidence = confidence
        self.min_regions = min_regions
        self.max_regions = max_regions

    @property
    def spec(self) -> TokenSpec:
        """Values at seven numbers each."""
        return TokenSpec(
            features=self.features,
            axes=BOX_NUMBERS,
            max_tokens=self.max_regions,
            structure=(CLASSES,) if self.classes else (),
        )

    def check(self, raw: Any) -> None:
        """Refuse what is no region set, or one of other sizes than the options say."""
        if not isinstance(raw, RegionSet):
            raise UnreadableError(f"regions must be a RegionSet, got {type(raw).__name__}")
        if not len(raw):
            return
        if raw.features.shape[1] != self.features:
            raise UnreadableError(
                f"regions must have {self.features} features, got {raw.features.shape[1]}"
            )
        found = 0 if raw.classes is None else raw.classes.shape[1]
        if self.classes and found != self.classes:
            raise UnreadableError(
                f"regions must have soft labels for {self.classes} classes, got {found}"
            )

    def encode(
        self,
        raws: Sequence[RegionSet | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return a token for each region kept; None has none."""
        kept = [(raw, self._kept(raw)) for raw in raws if raw is not None and len(raw)]
        values = [np.zeros((0, self.features), np.float32)]
        boxes = [np.zeros((0, BOX_NUMBERS), np.float32)]
        classes = [np.zeros((0, self.classes), np.float32)]
        for raw, rows in kept:
            values.append(raw.features[rows])
            boxes.append(raw.boxes[rows])
            if self.classes:
                assert raw.classes is not None
                classes.append(raw.classes[rows])
        channels = {CLASSES: torch.from_numpy(np.concatenate(classes))} if self.classes else {}
        layout = Layout.of(
            self.count(raws), torch.from_numpy(np.concatenate(boxes)), channels=channels
        )
        cut = tuple(raw is not None and self._wanted(raw) > self.max_regions for raw in raws)
        return Tokens(layout, values=torch.from_numpy(np.concatenate(values)), cut=cut)

    def count(self, raws: Sequence[RegionSet | None]) -> list[int]:
        """Return how many regions of each are kept."""
        return [0 if raw is None else len(self._kept(raw)) for raw in raws]

    def _wanted(self, raw: RegionSet) -> int:
        """Return how many regions there would be without `max_regions`."""
        if raw.confidence is None:
            return len(raw)
        return max(int((raw.confidence > self.confidence).sum()), self.min_regions)

    def _kept(self, raw: RegionSet) -> np.ndarray:
        """Return the rows kept, ascending (`compute_num_bb` of the paper's code)."""
        count = min(self._wanted(raw), self.max_regions)
        if raw.confidence is None:
            return np.arange(count)
        return np.sort(np.argsort(-raw.confidence, kind="stable")[:count])
