"""A tower: another library's image model behind packed patches."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from polymodal import NO_TAPS, Encoded, Encoder, Layout, Taps, Tokens, TokenSpec
from polymodal_vision.patching import STATISTICS, MeanStd, PatchSpec, frames_of_rows


@dataclass(frozen=True, eq=False)
class Seen:
    """What a tower makes of images: a map of vectors, one vector, and hidden maps by block."""

    maps: Float[Tensor, "image width row column"]
    pooled: Float[Tensor, "image width"]
    hidden: Mapping[int, Float[Tensor, "image _ _ _"]] = field(default_factory=dict)


class Tower(nn.Module, ABC):
    """An image model: pixels in, a map of vectors and one vector an image out."""

    width: int

    @abstractmethod
    def see(self, pixels: Float[Tensor, "image 3 height width"], taps: Taps) -> Seen:
        """Return the model's output for at least one image.

        Raises:
            ValueError: a tap it does not have, or an output with no map of vectors.
        """

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """Return the model's parts in order of depth, stem first."""

    def no_weight_decay(self) -> frozenset[str]:
        """Return names of parameters that the model's library spares from weight decay."""
        return frozenset()

    def forward(
        self,
        pixels: Float[Tensor, "image 3 height width"],
        grid: tuple[int, int],
        *,
        taps: Taps = NO_TAPS,
    ) -> Seen:
        """Return the model's output for any number of images, its maps brought to the grid.

        Without an image a black one is seen and dropped, so that every rank of a sharded model
        runs the same passes; for fewer than two images batch norms use their running statistics,
        as those of one value can't be computed.

        Raises:
            ValueError: attention maps were asked for, or what `see` refuses.
        """
        if taps.attention:
            raise ValueError(f"{type(self).__name__} has no attention maps to tap")
        images = pixels.shape[0]
        if not images:
            pixels = pixels.new_zeros(1, *pixels.shape[1:])
        with _steady_batch_norms(self, images):
            seen = self.see(pixels, taps)
        return Seen(
            resample(seen.maps[:images], grid),
            seen.pooled[:images],
            {block: resample(rows[:images], grid) for block, rows in seen.hidden.items()},
        )


@contextmanager
def _steady_batch_norms(model: nn.Module, images: int) -> Iterator[None]:
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    norms = norms if images < 2 else []
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def resample(
    maps: Float[Tensor, "image width row column"], grid: tuple[int, int]
) -> Float[Tensor, "image width grid_row grid_column"]:
    """Return maps at another grid, bilinear and antialiased; the same maps if it is theirs."""
    if tuple(maps.shape[2:]) == grid:
        return maps
    if not maps.shape[0]:
        return maps.mean(dim=(2, 3), keepdim=True).expand(-1, -1, *grid)
    # In single precision: not every device has antialiased resizing in half.
    moved = nn.functional.interpolate(maps.float(), grid, mode="bilinear", antialias=True)
    return moved.to(maps.dtype)


def packed(
    maps: Float[Tensor, "image width row column"], cell: Tensor
) -> Float[Tensor, "token width"]:
    """Return the vector at each token's cell, counted image by image, row by row."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)[cell]


class TowerEncoder(Encoder):
    """Packed patches through a tower: one vector a patch, and the tower's own pooled vector.

    The stem is the pixels themselves (`embed` returns the patches' values, so its width is that of
    the tokens); the trunk puts them back together as images, runs the model, and reads its
    last map at each patch's place, resampled where the model's stride is not the patch. Patches
    that were dropped are seen as the mean colour.

    Raises:
        ValueError: tokens that are no patches of images of one size.
    """

    def __init__(self, spec: TokenSpec, tower: Tower):
        super().__init__()
        self.grid = image_grid(spec)
        self.spec = spec
        self.tower = tower
        self.width = tower.width

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the patches' values."""
        assert tokens.values is not None
        return Encoded.mean_pooled(tokens.layout, tokens.values)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the model's vector at each patch.

        Raises:
            ValueError: a tap this model does not have.
        """
        layout = encoded.layout
        present = [segment for segment, length in enumerate(layout.lengths) if length]
        place = torch.zeros(layout.segments, dtype=torch.int64)
        place[present] = torch.arange(len(present))
        row, column = layout.positions.unbind(dim=1)
        first = place.to(layout.device, non_blocking=True)[layout.segment] * self.grid[0]
        cell = (first + row) * self.grid[1] + column
        assert isinstance(self.spec, PatchSpec)
        pixels = frames_of_rows(
            encoded.vectors, cell, images=len(present), grid=self.grid, patch=self.spec.patch
        )
        seen: Seen = self.tower(pixels[:, 0], self.grid, taps=taps)
        return Encoded(
            layout,
            packed(seen.maps, cell),
            spread(seen.pooled, layout, present),
            hidden={block: packed(maps, cell) for block, maps in seen.hidden.items()},
        )

    def layers(self) -> list[nn.Module]:
        """Return the model's parts in order of depth, stem first."""
        return self.tower.layers()

    def no_weight_decay(self) -> frozenset[str]:
        """Return what the model's library spares: positions, class tokens."""
        return under("tower.", self.tower.no_weight_decay())


def under(prefix: str, names: Iterable[str]) -> frozenset[str]:
    """Return names of a part's parameters as those of the module that holds it."""
    return frozenset(prefix + name for name in names)


def spread(
    rows: Float[Tensor, "present width"], layout: Layout, present: list[int]
) -> Float[Tensor, "segment width"]:
    """Return one row a segment: zero where it is empty."""
    if len(present) == layout.segments:
        return rows
    index = torch.tensor(present, dtype=torch.int64).to(rows.device, non_blocking=True)
    return rows.new_zeros(layout.segments, rows.shape[1]).index_copy(0, index, rows)


def image_grid(spec: TokenSpec) -> tuple[int, int]:
    """Return the rows and columns of patches of every image.

    Raises:
        ValueError: the tokens are no patches, or images are not of one size.
    """
    if not isinstance(spec, PatchSpec) or spec.axes != 2:
        raise ValueError("an image model needs the patches of images: tokenize by vision.patches")
    if spec.grid is None:
        raise ValueError(
            "an image model needs images of one size: give vision.patches `size`, not `max_tokens`"
        )
    return spec.grid[0], spec.grid[1]


def check_statistics(name: str, wanted: MeanStd, spec: PatchSpec) -> None:
    """Refuse pixels that are not normalised as the weights were trained.

    Raises:
        ValueError: which normalisation to ask of the tokenizer.
    """
    if torch.allclose(torch.tensor(wanted), torch.tensor(spec.statistics), atol=1e-4):
        return
    known = [key for key, value in STATISTICS.items() if _close(value, wanted)]
    remedy = f"set its `normalize: {known[0]}`" if known else "train without these weights"
    raise ValueError(
        f"the weights of {name} want pixels normalised by mean {wanted[0]} and std {wanted[1]}, "
        f"the tokenizer uses {spec.statistics[0]} and {spec.statistics[1]}: {remedy}"
    )


def _close(first: MeanStd, second: MeanStd) -> bool:
    return torch.allclose(torch.tensor(first), torch.tensor(second), atol=1e-4)


class Layer(nn.Module):
    """Some parts of a model that lie at one depth: it only holds them, under their own names."""

    def hold(self, name: str, part: nn.Module | nn.Parameter) -> None:
        """Add a part."""
        key = name.replace(".", "_")
        if isinstance(part, nn.Module):
            self.add_module(key, part)
        else:
            self.register_parameter(key, part)


def by_depth(model: nn.Module, depth: Mapping[str, int]) -> list[nn.Module]:
    """Return one module a depth, holding the parameters that `depth` puts there, by name."""
    order = sorted(set(depth.values()))
    layers = {each: Layer() for each in order}

    def place(part: nn.Module, prefix: str) -> None:
        names = [prefix + name for name, _ in part.named_parameters()]
        found = {depth[name] for name in names if name in depth}
        if len(found) == 1 and prefix:
            layers[found.pop()].hold(prefix[:-1], part)
            return
        for name, parameter in part.named_parameters(recurse=False):
            if prefix + name in depth:  # a tied parameter has one name only
                layers[depth[prefix + name]].hold(prefix + name, parameter)
        for name, child in part.named_children():
            place(child, f"{prefix}{name}.")

    place(model, "")
    return [layers[each] for each in order]
