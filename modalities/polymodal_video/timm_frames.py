"""Any timm image model on every frame of a clip."""

import torch
from torch import nn

from polymodal import (
    NO_TAPS,
    Encoded,
    Encoder,
    FromRun,
    Layout,
    Taps,
    Tokens,
    TokenSpec,
    segment_mean,
)
from polymodal_video.space_time import by_time
from polymodal_vision import PatchSpec, TimmTower, frames_of_rows


class TimmFrames(Encoder):
    """A timm model that sees each frame by itself; pooled is the mean of its pooled over time.

    A token's vector is the model's map of its frame at its place (the mean over the frames of a
    tubelet with `tube` above 1). The stem is the pixels themselves, as of `vision.timm`, which
    explains size, patch and normalisation. A clip with one frame is encoded as that image.

    Args:
        spec: of the tubelets; given by the run.
        model: a name timm knows, such as "resnet18" or "vit_base_patch16_224.dino".
        pretrained: True for timm's own weights (downloaded once), or a local file of weights.
        image_size: frames are resized to this before the model sees them; None: as they come.
        drop_path: the rate of stochastic depth.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: an unknown model, tokens of another kind, a size it can't take, or pixels
            normalised in another way than its weights want.
        DataError: weights that can't be downloaded or read.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        model: str,
        pretrained: bool | str = False,
        image_size: int | tuple[int, int] | None = None,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        if not isinstance(spec, PatchSpec) or spec.axes != 3 or spec.extent is None:
            raise ValueError("timm_frames needs the tubelets of clips: tokenize by video.tubelets")
        self.spec = spec
        self.extent = spec.extent
        self.grid = (spec.extent[1], spec.extent[2])
        self.tower = TimmTower(
            model=model,
            size=(self.grid[0] * spec.patch[0], self.grid[1] * spec.patch[1]),
            pretrained=pretrained,
            image_size=image_size,
            drop_path=drop_path,
            gradient_checkpointing=gradient_checkpointing,
        )
        self.tower.check_statistics(spec)
        self.width = self.tower.width

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the tubelets' values."""
        assert tokens.values is not None
        return Encoded.mean_pooled(tokens.layout, tokens.values)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the model's vector at each tubelet.

        Raises:
            ValueError: a tap this model does not have.
        """
        layout, tube = encoded.layout, self.spec.tube
        times = by_time(layout, self.extent)
        _, row, column = layout.positions.unbind(dim=1)
        image = times.layout.segment[times.back]
        cell = (image * self.grid[0] + row) * self.grid[1] + column
        images = times.layout.segments
        pixels = frames_of_rows(
            encoded.vectors, cell, images=images, grid=self.grid, patch=self.spec.patch, tube=tube
        )
        seen = self.tower(pixels.flatten(0, 1), self.grid, taps=taps)

        def read(maps: torch.Tensor) -> torch.Tensor:
            mean = maps.reshape(images, tube, *maps.shape[1:]).mean(dim=1)
            return mean.flatten(2).transpose(1, 2).flatten(0, 1)[cell]

        clip = times.keys // self.extent[0]
        frames = Layout.of(torch.bincount(clip, minlength=layout.segments).tolist())
        pooled = seen.pooled.reshape(images, tube, self.width).mean(dim=1)
        return Encoded(
            layout,
            read(seen.maps),
            segment_mean(pooled, frames.to(layout.device)),
            hidden={block: read(maps) for block, maps in seen.hidden.items()},
        )

    def no_weight_decay(self) -> frozenset[str]:
        """Return what timm's `no_weight_decay` names."""
        return frozenset("tower." + name for name in self.tower.no_weight_decay())

    def layers(self) -> list[nn.Module]:
        """Return the model's parts in order of depth, stem first."""
        return self.tower.layers()
