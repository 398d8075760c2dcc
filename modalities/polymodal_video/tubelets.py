"""Tubelets: clips cut into blocks of patches over some frames, one token a block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from polymodal import Layout, Tokenizer, Tokens, UnreadableError
from polymodal_video.clip import Clip, Film
from polymodal_video.sampling import Sampling, frame_indices
from polymodal_vision import (
    STATISTICS,
    Augmentation,
    Framing,
    Interpolation,
    Normalization,
    PatchSpec,
    ResizeMode,
    check_picture,
    denormalize,
    normalize,
    patch_rows,
    whole_patches,
)


@dataclass(frozen=True, eq=False)
class Ready:
    """The frames of a clip at their size, so that only tubelets remain to be made of them."""

    frames: UInt8[np.ndarray, "frame height width 3"]


class Tubelets(Tokenizer):
    """Cuts clips into tubelets (ViViT): values [token, tube * patch * patch * 3].

    Positions are (time, row, column), time counting tubelets; values are in the order (frame, y,
    x, colour). A clip with fewer than `frames` frames gives fewer tubelets, so nothing is padded,
    save that its last frame is repeated to fill the last tubelet.

    Args:
        size: side in pixels, or (height, width), each a multiple of `patch`.
        frames: how many to take of a clip; a multiple of `tube`.
        tube: frames of a tubelet.
        patch: side of a tubelet in pixels.
        sampling: "uniform" over the clip, "random" in equal stretches (TSN), or "dense".
        stride: of "dense", from one frame to the next.
        resize: how frames of another aspect ratio come to `size`: "crop" the longer side,
            "squash" it, or "pad" the shorter one with `padding`.
        crop_share: of the shorter side, what "crop" keeps.
        padding: RGB, 0 to 255, of what "pad" adds.
        interpolation: of the resizing, which is antialiased.
        normalize: statistics that the pixels are normalised by; a trained model wants its own.
        augment: random changes by name, as for `vision.patches`, alike for all frames of a clip.
            Made only while training (when `encode` is given generators).

    Raises:
        ValueError: frames or a size that are no whole number of tubelets.
    """

    reader = "video.clip"

    def __init__(
        self,
        *,
        size: int | tuple[int, int],
        frames: int = 16,
        tube: int = 2,
        patch: int = 16,
        sampling: Sampling = "uniform",
        stride: int = 2,
        resize: ResizeMode = "crop",
        crop_share: float = 1.0,
        padding: tuple[int, int, int] = (0, 0, 0),
        interpolation: Interpolation = "bilinear",
        normalize: Normalization = "half",
        augment: Mapping[str, Any] | None = None,
    ):
        self.size = whole_patches(size, patch)
        if tube < 1 or frames < 1 or frames % tube:
            raise ValueError(f"frames must be a multiple of tube, got {frames} and {tube}")
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self.frames = frames
        self.tube = tube
        self.patch = patch
        self.sampling: Sampling = sampling
        self.stride = stride
        self.framing = Framing(
            resize=resize,
            crop_share=crop_share,
            padding=padding,
            interpolation=interpolation,
            augment=Augmentation.of(augment),
        )
        self.statistics = STATISTICS[normalize]

    @property
    def spec(self) -> PatchSpec:
        """Values of tubelets at (time, row, column)."""
        extent = (self.frames // self.tube, *self._grid)
        return PatchSpec(
            features=self.tube * self.patch**2 * 3,
            axes=3,
            extent=extent,
            max_tokens=prod(extent),
            patch=(self.patch, self.patch),
            tube=self.tube,
            statistics=self.statistics,
        )

    @property
    def _grid(self) -> tuple[int, int]:
        return self.size[0] // self.patch, self.size[1] // self.patch

    def check(self, raw: object) -> None:
        """Refuse what is no clip of at least one frame."""
        if not isinstance(raw, Clip):
            raise UnreadableError(f"a video must be a Clip, got {type(raw).__name__}")
        if not isinstance(raw, Film):  # whose frames are checked as they are decoded
            check_picture(raw.frames, shape=("frame", "height", "width", "3"))

    def shrink(self, raw: Clip, *, generator: np.random.Generator | None = None) -> "Ready":
        """Return the frames to look at, cut and resized one by one as they are decoded.

        Raises:
            UnreadableError: a frame that can't be decoded.
        """
        chosen = self._chosen(raw, generator)
        plan = None
        frames = []
        for frame in raw.take(chosen):
            if plan is None:
                height, width = frame.shape[:2]
                plan = self.framing.plan(height, width, lambda *_: self.size, generator)
            frames.append(np.array(plan.fit(frame[None])[0]))
        assert plan is not None, "a clip has at least one frame"
        frames += frames[-1:] * (-len(chosen) % self.tube)
        return Ready(self.framing.changed(np.stack(frames), plan, generator))

    def encode(
        self,
        raws: Sequence["Clip | Ready | None"],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return the tubelets of each clip, by time, row and column; None has none."""
        draws = [None] * len(raws) if generators is None else generators
        clips = [
            raw if raw is None or isinstance(raw, Ready) else self.shrink(raw, generator=draw)
            for raw, draw in zip(raws, draws, strict=True)
        ]
        present = [clip.frames for clip in clips if clip is not None]
        features = self.tube * self.patch**2 * 3
        if not present:
            rows = np.zeros((0, features), dtype=np.uint8)
        elif len({len(clip) for clip in present}) == 1:
            cut = patch_rows(np.stack(present), patch=self.patch, tube=self.tube)
            rows = cut.reshape(-1, features)
        else:
            rows = np.concatenate(
                [patch_rows(clip[None], patch=self.patch, tube=self.tube)[0] for clip in present]
            )
        times = [0 if clip is None else len(clip.frames) // self.tube for clip in clips]
        # Positions of the longest clip; those of a shorter one are their beginning.
        places = np.indices((max(times, default=0), *self._grid), dtype=np.int64).reshape(3, -1).T
        lengths = [time * prod(self._grid) for time in times]
        positions = np.concatenate([np.zeros((0, 3), np.int64), *[places[:n] for n in lengths]])
        layout = Layout.of(lengths, torch.from_numpy(positions))
        return Tokens(layout, values=normalize(torch.from_numpy(rows), self.statistics))

    def count(self, raws: Sequence[Clip | None]) -> list[int]:
        """Return how many tubelets each clip would have, from its number of frames alone."""
        each = prod(self._grid)
        return [0 if raw is None else ceil(len(self._chosen(raw)) / self.tube) * each
                for raw in raws]  # fmt: skip

    def decode(self, tokens: Tokens) -> list[Clip | None]:
        """Return each segment as a clip of its frames, a second apart; None for an empty one.

        Tubelets that were dropped show the mean colour; a clip ends with the last tubelet.
        """
        levels = denormalize(tokens.rows, self.statistics)
        places = tokens.layout.positions.cpu().numpy()
        blank = denormalize(torch.zeros(1, 3), self.statistics)[0]
        shape = (self.tube, self.patch, self.patch, 3)
        clips: list[Clip | None] = []
        start = 0
        for length in tokens.layout.lengths:
            part, start = slice(start, start + length), start + length
            if not length:
                clips.append(None)
                continue
            times = int(places[part, 0].max()) + 1
            canvas = np.broadcast_to(blank, (times, *self._grid, *shape)).copy()
            canvas[tuple(places[part].T)] = levels[part].reshape(length, *shape)
            # time row column frame y x colour -> (time frame) (row y) (column x) colour
            frames = canvas.transpose(0, 3, 1, 4, 2, 5, 6).reshape(-1, *self.size, 3)
            clips.append(Clip(frames, np.arange(len(frames), dtype=np.float64)))
        return clips

    def _chosen(self, raw: Clip, generator: np.random.Generator | None = None) -> np.ndarray:
        return frame_indices(
            len(raw),
            self.frames,
            sampling=self.sampling,
            stride=self.stride,
            generator=generator,
        )
