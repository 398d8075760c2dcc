"""timm's models as towers, whatever family they belong to."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import load_state_dict
from timm.models._manipulate import group_parameters
from torch import Tensor, nn

from polymodal import DataError, Taps, nearest
from polymodal_vision.patching import MeanStd, PatchSpec
from polymodal_vision.tower import Seen, Tower, by_depth, check_statistics, under


class TimmTower(Tower):
    """A timm model for images of one size: its last map, and its pooled vector before the classes.

    Where a model widens its pooled vector beyond its map (MobileNetV3, VGG), the map's cells go
    through the same layers, so that both have one width.

    Args:
        model: a name timm knows, with or without the tag of its weights.
        size: (height, width) of the pixels that will come.
        pretrained: True for timm's own weights (downloaded once), or a local file of weights.
        image_size: pixels are resized to this before the model sees them; None: as they come.
        drop_path: the rate of stochastic depth.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: a name, size or combination that timm refuses.
        DataError: weights that can't be downloaded or read.
    """

    def __init__(
        self,
        *,
        model: str,
        size: tuple[int, int],
        pretrained: bool | str = False,
        image_size: int | tuple[int, int] | None = None,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        if isinstance(image_size, int):
            image_size = (image_size, image_size)
        self.image_size = image_size
        self.model: Any = build(
            model, size=image_size or size, pretrained=pretrained, drop_path=drop_path
        )
        self.name = model
        self.library_weights = pretrained is True
        self.width = int(self.model.head_hidden_size)
        if gradient_checkpointing:
            try:
                self.model.set_grad_checkpointing(True)
            except AssertionError as error:  # how timm says that it can't
                raise ValueError(f"{model!r} has no gradient checkpointing in timm") from error

    @property
    def statistics(self) -> MeanStd:
        """What the weights timm publishes for this model were trained with."""
        known = self.model.pretrained_cfg
        return tuple(known["mean"]), tuple(known["std"])

    def check_statistics(self, spec: PatchSpec) -> None:
        """Refuse pixels normalised in another way than timm's own weights want; a file's may be.

        Raises:
            ValueError: which normalisation to ask of the tokenizer.
        """
        if self.library_weights:
            check_statistics(self.name, self.statistics, spec)

    def see(self, pixels: Float[Tensor, "image 3 height width"], taps: Taps) -> Seen:
        """Return the model's last map, pooled vector and the hidden maps asked for."""
        if self.image_size is not None:
            pixels = nn.functional.interpolate(
                pixels, self.image_size, mode="bilinear", antialias=True
            )
        hidden: dict[int, Tensor] = {}
        if taps.hidden:
            try:
                features, maps = self.model.forward_intermediates(
                    pixels, indices=list(taps.hidden), norm=False, output_fmt="NCHW"
                )
            except AttributeError as error:
                raise ValueError(f"{self.name} has no hidden layers to tap") from error
            except AssertionError as error:  # how timm refuses a number that is no block
                raise ValueError(f"{self.name} has no blocks {taps.hidden}: {error}") from error
            # timm returns them by depth, whatever order they were asked in.
            depth = len(self.model.feature_info)
            hidden = dict(zip(sorted(taps.hidden, key=lambda block: block % depth), maps))
        else:
            features = self.model.forward_features(pixels)
        cells = features
        if self.width != self.model.num_features:
            cells = dense_head(self.model, features, pre_logits=True)
        maps = as_maps(self.model, cells, pixels.shape[2:])
        return Seen(maps, self.model.forward_head(features, pre_logits=True), hidden)

    def no_weight_decay(self) -> frozenset[str]:
        """Return what timm's `no_weight_decay` names, as its training script does."""
        return under("model.", spared(self.model))

    def layers(self) -> list[nn.Module]:
        """Return timm's own groups by depth."""
        return by_depth(self.model, depths(self.model))


def spared(model: Any) -> Iterable[str]:
    """Return what a model of timm or open_clip declares; not every one does."""
    declared = getattr(model, "no_weight_decay", None)
    return () if declared is None else declared()


def build(
    name: str, *, size: tuple[int, int], pretrained: bool | str, drop_path: float = 0.0
) -> Any:
    """Return the timm model for images of this size, without its classes.

    Raises:
        ValueError: an unknown name or a size it can't take.
        DataError: weights that can't be downloaded or read.
    """
    settings = configuration(name)
    options: dict[str, Any] = {"num_classes": 0}
    if drop_path:
        options["drop_path_rate"] = drop_path
    if settings is not None and settings.fixed_input_size and settings.input_size[1:] != size:
        options["img_size"] = size
    tensors: dict[str, Tensor] | None = None
    if isinstance(pretrained, str):
        tensors = weights(pretrained)
        options["pretrained_cfg_overlay"] = {"state_dict": tensors}
    elif pretrained and settings is not None and not settings.has_weights:
        tagged = [model for model in timm.list_pretrained() if model.startswith(f"{name}.")]
        known = f" Known: {', '.join(tagged)}." if tagged else " Set `pretrained: false`."
        raise ValueError(f"timm has no trained weights for {name!r}.{known}")
    try:
        model = timm.create_model(name, pretrained=bool(pretrained), **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise ValueError(f"timm can't build {name!r}: {error}") from error
        assert settings is not None
        raise ValueError(
            f"{name!r} takes images of {settings.input_size[1]} x {settings.input_size[2]} only, "
            f"got {size[0]} x {size[1]}: set `image_size`"
        ) from error
    except Exception as error:  # any library between timm and the network may raise its own
        if isinstance(pretrained, str):
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"{pretrained}: no weights of timm's {name!r}: {reason}") from error
        if pretrained:
            raise DataError(download_failed(f"timm model {name!r}", error)) from error
        raise ValueError(f"timm can't build {name!r} for {size[0]} x {size[1]}: {error}") from error
    if tensors is not None and (share := share_found(model, tensors)) < 0.5:
        raise DataError(
            f"{pretrained} holds {share:.0%} of the tensors of timm's {name!r}: is it another "
            "model's?"
        )
    return model


def share_found(model: nn.Module, tensors: Mapping[str, Tensor]) -> float:
    """Return the share of a model's parameters that stand in a file, whatever they are called.

    timm renames and resizes tensors while loading and only logs what it did not find, so that a
    file of another model would leave the weights random without an error.
    """

    def mark(rows: Tensor) -> tuple[int, float, float]:
        flat = rows.detach().float().flatten()
        return len(flat), float(flat[0]), float(flat.sum())

    known = {mark(rows) for rows in tensors.values() if isinstance(rows, Tensor) and rows.numel()}
    found = [mark(rows) in known for rows in model.parameters()]
    return sum(found) / max(len(found), 1)


def configuration(name: str) -> Any:
    """Return what timm knows of a model; None for one of the hub, known once downloaded.

    Raises:
        ValueError: an unknown name or tag, with the nearest.
    """
    if name.startswith("hf-hub:"):
        return None
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ValueError(
            f"timm has no model {architecture!r}.{nearest(architecture, timm.list_models())}"
        )
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [
            full.partition(".")[2]
            for full in timm.list_pretrained()
            if full.startswith(f"{architecture}.")
        ]
        hint = nearest(tag, tags)
        raise ValueError(f"timm's {architecture!r} has no weights {tag!r}.{hint}") from error


def weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a file (safetensors or torch's format), unpickling nothing else.

    Raises:
        DataError: no such file, or one that holds no weights.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; `pretrained` is true, false or a file of weights")
    try:
        found: dict[str, Tensor] = load_state_dict(path, device="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} holds no weights that can be read: {error}") from error
    return found


def download_failed(what: str, error: Exception) -> str:
    """Return the one line that says which weights could not be had, and what to do."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return (
        f"the weights of {what} could not be downloaded ({reason}). Check the network, or download "
        "them elsewhere and give the file's path as `pretrained`"
    )


def as_maps(
    model: Any, features: Tensor, size: torch.Size | tuple[int, int]
) -> Float[Tensor, "image width row column"]:
    """Return a model's features as maps, whether it makes them NCHW, NHWC or as a sequence.

    Raises:
        ValueError: features that are no map.
    """
    if features.ndim == 4:
        nhwc = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if nhwc else features
    if features.ndim == 3:
        cells = features[:, getattr(model, "num_prefix_tokens", 0) :]
        stride = math.sqrt(size[0] * size[1] / cells.shape[1])
        rows = max(round(size[0] / stride), 1)
        columns = cells.shape[1] // rows
        if rows * columns == cells.shape[1]:
            return cells.transpose(1, 2).unflatten(2, (rows, columns))
    raise ValueError(
        f"{type(model).__name__} makes features of shape {tuple(features.shape)}, no map of vectors"
    )


def dense_head(model: Any, features: Tensor, *, pre_logits: bool) -> Tensor:
    """Return every cell of the features as the head makes it of an image that has this cell only.

    For a head that averages, this is the map of which the pooled vector would be the mean.
    """
    if features.ndim == 4:
        nhwc = getattr(model, "output_fmt", "NCHW") == "NHWC"
        cells = features if nhwc else features.permute(0, 2, 3, 1)
        flat = cells.reshape(-1, cells.shape[-1])
        single = flat[:, None, None, :] if nhwc else flat[:, :, None, None]
        out = model.forward_head(single, pre_logits=pre_logits).unflatten(0, cells.shape[:3])
        return out if nhwc else out.permute(0, 3, 1, 2)
    # Some heads read the class token, others the mean of what follows the prefix: repeat the cell.
    copies = getattr(model, "num_prefix_tokens", 0) + 1
    flat = features.reshape(-1, 1, features.shape[-1]).expand(-1, copies, -1)
    out = model.forward_head(flat, pre_logits=pre_logits)
    return out.unflatten(0, features.shape[:2])


def depths(model: Any, prefix: str = "") -> dict[str, int]:
    """Return the depth of every parameter as timm groups them for layer-wise rates."""
    groups: dict[str, int] = group_parameters(model, model.group_matcher(), reverse=True)
    return {prefix + name: depth for name, depth in groups.items()}
