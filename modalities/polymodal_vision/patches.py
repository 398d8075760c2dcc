"""Patches: images cut into squares, one token a square."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from polymodal import Layout, Tokenizer, Tokens
from polymodal_vision.augmentation import Augmentation, Changes
from polymodal_vision.batch_augmentation import change_each, drawn_rows
from polymodal_vision.framing import Framing, whole_patches
from polymodal_vision.geometry import Interpolation, ResizeMode, native_size
from polymodal_vision.image import check_picture
from polymodal_vision.patching import (
    STATISTICS,
    Normalization,
    PatchSpec,
    denormalize,
    normalize,
    patch_rows,
    patches_of_images,
    standardized,
)
from polymodal_vision.spiral import spiral

Order = Literal["raster", "spiral"]


@dataclass(frozen=True, eq=False)
class Ready:
    """An image cut and resized, so that only patches remain to be made of it."""

    image: UInt8[np.ndarray, "height width 3"]
    changes: Changes = field(default_factory=Changes)  # left for `finish`


DRAWN = "drawn"  # the channel that tells `finish` how to change an image


class Patches(Tokenizer):
    """Cuts images into patches: values [token, patch * patch * 3], positions (row, column).

    Either every image is brought to one `size`, or each keeps its aspect ratio and takes as many
    patches as `max_tokens` allows. A patch's values are in the order (y, x, colour).

    Args:
        size: side in pixels, or (height, width), each a multiple of `patch`.
        max_tokens: budget of patches an image instead of one size (NaViT; NaFlex).
        patch: side of a patch in pixels.
        resize: how an image of another aspect ratio comes to `size`: "crop" the longer side,
            "squash" it, or "pad" the shorter one with `padding`.
        crop_share: of the shorter side, what "crop" keeps (timm's `crop_pct`).
        enlarge: whether an image smaller than the `max_tokens` budget is enlarged to use it up.
        padding: RGB, 0 to 255, of what "pad" adds.
        interpolation: of the resizing, which is antialiased.
        normalize: statistics that the pixels are normalised by; a trained tower wants its own.
        grid: patches a side, or (rows, columns), that positions are stretched to, so that crops
            of several sizes share them: 6 x 6 patches with grid 14 are read with the positions of
            14 x 14, interpolated (DINO). Positions are fractions then. Needs `size`.
        order: of an image's patches: "raster", row by row, or "spiral", from the centre outwards,
            so that a next-patch objective begins with what the picture is of (AstroPT, Smith et
            al., 2024).
        standardize: give each patch mean 0 and deviation 1 by itself. Its own brightness and
            contrast are lost: `decode` shows all patches alike in both.
        augment: random changes by name, options of `Augmentation`: crop, ratio, flip, jitter,
            brightness, contrast, saturation, hue, grey, blur, blur_sigma. Made only while training
            (when `encode` is given generators).
        on_device: let the data worker only crop and resize, and `finish` flip, colour, blur and
            normalise all images of a batch at once on the training device. For GPUs: what some
            images need is computed for all. Needs `size`.

    Raises:
        ValueError: neither or both of `size` and `max_tokens`, a size that is no multiple of
            the patch, `grid` or `on_device` without `size`, or `on_device` with "pad".
    """

    reader = "vision.image"

    def __init__(
        self,
        *,
        size: int | tuple[int, int] | None = None,
        max_tokens: int | None = None,
        patch: int = 16,
        resize: ResizeMode = "crop",
        crop_share: float = 1.0,
        enlarge: bool = False,
        padding: tuple[int, int, int] = (0, 0, 0),
        interpolation: Interpolation = "bicubic",
        normalize: Normalization = "half",
        grid: int | tuple[int, int] | None = None,
        order: Order = "raster",
        standardize: bool = False,
        augment: Mapping[str, Any] | None = None,
        on_device: bool = False,
    ):
        if (size is None) == (max_tokens is None):
            raise ValueError(
                "patches need either size (one size for all) or max_tokens (native aspect ratio), "
                + ("got neither" if size is None else "got both")
            )
        self.size = None if size is None else whole_patches(size, patch)
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        self.max_tokens = max_tokens
        self.patch = patch
        self.enlarge = enlarge
        self.framing = Framing(
            resize="squash" if size is None else resize,
            crop_share=crop_share,
            padding=padding,
            interpolation=interpolation,
            augment=Augmentation.of(augment),
        )
        self.statistics = STATISTICS[normalize]
        if grid is not None and size is None:
            raise ValueError("grid stretches positions of images of one size: give size too")
        self.grid = None if grid is None else whole_patches(grid, 1)
        if on_device and (size is None or resize == "pad"):
            raise ValueError(
                "on_device changes images of one size that fill it: give size, and crop or squash "
                "as resize"
            )
        self.order: Order = order
        self.standardize = standardize
        self.on_device = on_device

    @property
    def spec(self) -> PatchSpec:
        """Values of patches at (row, column)."""
        if self.size is None:
            assert self.max_tokens is not None
            extent, tokens = (self.max_tokens, self.max_tokens), self.max_tokens
        else:
            extent = (self.size[0] // self.patch, self.size[1] // self.patch)
            tokens = prod(extent)
        if self.grid is not None:
            extent = self.grid
        return PatchSpec(
            features=self.patch**2 * 3,
            axes=2,
            extent=extent,
            max_tokens=tokens,
            patch=(self.patch, self.patch),
            statistics=self.statistics,
        )

    def check(self, raw: object) -> None:
        """Refuse what is not uint8 [H, W, 3] with at least one pixel."""
        check_picture(raw)

    def shrink(self, raw: np.ndarray, *, generator: np.random.Generator | None = None) -> "Ready":
        """Return an image at its size, and the changes left for `finish`."""
        height, width = raw.shape[:2]
        plan = self.framing.plan(height, width, self._target, generator)
        image = np.array(plan.fit(raw[None]))  # by itself: a view would hold the whole image
        if not self.on_device:
            return Ready(self.framing.changed(image, plan, generator)[0])
        if generator is None:
            return Ready(image[0])
        return Ready(image[0], Changes.draw(self.framing.augment, generator))

    def encode(
        self,
        raws: Sequence["np.ndarray | Ready | None"],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return the patches of each image uint8 [H, W, 3] in the chosen order; None has none.

        With `on_device` values are the levels of the pixels, row by row: `finish` cuts patches.
        """
        draws: Sequence[np.random.Generator | None] = [None] * len(raws)
        if generators is not None and self.framing.augment != Augmentation():  # costly to make
            draws = generators
        framed = [
            raw if raw is None or isinstance(raw, Ready) else self.shrink(raw, generator=draw)
            for raw, draw in zip(raws, draws, strict=True)
        ]
        present = [each for each in framed if each is not None]
        images = [each.image for each in present]
        features = self.patch**2 * 3
        if not images:
            rows = np.zeros((0, features), dtype=np.uint8)
        elif self.on_device:
            rows = np.stack(images).reshape(-1, features)
        elif len({image.shape for image in images}) == 1:
            rows = patch_rows(np.stack(images)[:, None], patch=self.patch).reshape(-1, features)
        else:
            rows = np.concatenate(
                [patch_rows(image[None, None], patch=self.patch)[0] for image in images]
            )
        grids = [(0, 0) if each is None else self._grid(each.image.shape) for each in framed]
        places = {grid: self._places(grid) for grid in dict.fromkeys(grids)}
        positions = np.concatenate([self._places((0, 0)), *[places[g] for g in grids]])
        layout = Layout.of([r * c for r, c in grids], torch.from_numpy(positions))
        tokens = Tokens(layout, values=torch.from_numpy(rows))
        if not self.on_device:
            return self._valued(tokens, grids)
        drawn = [each.changes for each in present]
        if all(changes == Changes() for changes in drawn):
            return tokens
        channel = drawn_rows(drawn).repeat_interleave(layout.tokens // len(drawn), dim=0)
        return Tokens(replace(layout, channels={DRAWN: channel}), values=tokens.rows)

    def finish(self, tokens: Tokens) -> Tokens:
        """Change, cut and normalise the images of a batch at once, if `encode` has left that."""
        if not self.on_device:
            return tokens
        assert self.size is not None
        grid, layout = self._grid(self.size), tokens.layout
        images = tokens.rows.reshape(-1, *self.size, 3)
        if DRAWN in layout.channels:
            drawn = layout.channels[DRAWN][:: prod(grid)]  # an image's tokens all say the same
            changed = change_each(images.float() / 255, drawn, self.framing.augment)
            images = (changed * 255).round().to(torch.uint8)
        tokens = Tokens(replace(layout, channels={}), values=patches_of_images(images, self.patch))
        return self._valued(tokens, [grid if length else (0, 0) for length in layout.lengths])

    def _valued(self, tokens: Tokens, grids: Sequence[tuple[int, int]]) -> Tokens:
        values = normalize(tokens.rows, self.statistics)
        tokens = tokens.with_rows(standardized(values) if self.standardize else values)
        return tokens if self.order == "raster" else _reordered(tokens, grids)

    def count(self, raws: Sequence[np.ndarray | None]) -> list[int]:
        """Return how many patches each image would have, from its shape alone."""
        grids = [
            (0, 0) if raw is None else self._grid(self._target(*raw.shape[:2])) for raw in raws
        ]
        return [rows * columns for rows, columns in grids]

    def decode(self, tokens: Tokens) -> list[np.ndarray | None]:
        """Return each segment as an image uint8 [H, W, 3]; None for an empty one.

        Patches that were dropped show the mean colour; at native aspect ratio the image ends
        with the last patch there is.
        """
        levels = denormalize(tokens.rows, self.statistics)
        places = tokens.layout.positions.cpu().numpy()
        if self.size is not None and self.grid is not None:
            shrink = self._grid(self.size) / np.array(self.grid)
            places = ((places + 0.5) * shrink - 0.5).round().astype(np.int64)
        blank = denormalize(torch.zeros(1, 3), self.statistics)[0]
        images: list[np.ndarray | None] = []
        start = 0
        for length in tokens.layout.lengths:
            part, start = slice(start, start + length), start + length
            if not length:
                images.append(None)
                continue
            grid = (
                tuple(places[part].max(axis=0) + 1) if self.size is None else self._grid(self.size)
            )
            side = self.patch
            canvas = np.broadcast_to(blank, (*grid, side, side, 3)).copy()
            canvas[tuple(places[part].T)] = levels[part].reshape(length, side, side, 3)
            images.append(
                canvas.transpose(0, 2, 1, 3, 4).reshape(grid[0] * side, grid[1] * side, 3)
            )
        return images

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self.size is not None:
            return self.size
        assert self.max_tokens is not None
        limits = {"patch": self.patch, "max_tokens": self.max_tokens}
        return native_size(height, width, **limits, enlarge=self.enlarge)

    def _places(self, grid: tuple[int, int]) -> np.ndarray:
        """Return the position of each patch: [patch, axis], stretched where the options say so."""
        places = np.indices(grid, dtype=np.int64).reshape(2, -1).T
        if self.size is None or self.grid in (None, self._grid(self.size)):
            return places
        # The image reaches half a patch past the first and last centre at any size.
        stretch = np.array(self.grid) / self._grid(self.size)
        return ((places + 0.5) * stretch - 0.5).astype(np.float32)

    def _grid(self, shape: Sequence[int]) -> tuple[int, int]:
        return shape[0] // self.patch, shape[1] // self.patch


def _reordered(tokens: Tokens, grids: Sequence[tuple[int, int]]) -> Tokens:
    """Return the patches of each grid from its centre outwards."""
    orders = {grid: torch.tensor(spiral(*grid), dtype=torch.int64) for grid in dict.fromkeys(grids)}
    starts = accumulate(tokens.layout.lengths, initial=0)
    rows = torch.cat(
        [torch.zeros(0, dtype=torch.int64), *(orders[g] + s for g, s in zip(grids, starts))]
    ).to(tokens.layout.device)
    layout = replace(tokens.layout, positions=tokens.layout.positions[rows])
    return tokens.with_rows(tokens.rows[rows], layout)
