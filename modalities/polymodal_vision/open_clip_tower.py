"""open_clip's visual towers: pooled and tokens in the space that images and texts share."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from polymodal import DataError, Taps, contained, nearest
from polymodal_vision.patching import MeanStd
from polymodal_vision.timm_tower import as_maps, dense_head, depths, download_failed, spared
from polymodal_vision.tower import Seen, Tower, by_depth, under

with contained("TOKENIZERS_PARALLELISM"):  # open_clip turns it off for every tokenizer
    import open_clip
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import AttentionalPooler, VisionTransformer


class OpenClipTower(Tower):
    """The visual tower of an open_clip model: pooled is what it contrasts with texts.

    A token is the last block's vector at its place, brought into the same space by the tower's own
    last layers: norm and projection; where the tower pools by attention, its path of values, which
    is the pooled vector of an image that has this one place (MaskCLIP: Zhou et al., 2022, 3.2).

    Args:
        model: a name open_clip knows, such as "ViT-B-32".
        size: (height, width) of the pixels that will come.
        pretrained: a tag of open_clip's own weights (downloaded once), or a local checkpoint of
            the whole model, both towers.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: a name, tag or size that open_clip refuses.
        DataError: weights that can't be downloaded or read.
    """

    def __init__(
        self,
        *,
        model: str,
        size: tuple[int, int],
        pretrained: str | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.name = model
        self.width, self.visual = build(model, size=size, pretrained=pretrained)
        if gradient_checkpointing:
            self.visual.set_grad_checkpointing(True)

    def see(self, pixels: Float[Tensor, "image 3 height width"], taps: Taps) -> Seen:
        """Return projected maps, the pooled vector and the hidden maps asked for."""
        visual = self.visual
        blocks = _count(visual)
        wanted = {block: block % blocks for block in taps.hidden if -blocks <= block < blocks}
        if len(wanted) < len(taps.hidden):
            raise ValueError(f"{self.name} has {blocks} blocks to tap, got {taps.hidden}")
        if isinstance(visual, TimmModel):
            return self._see_timm(visual, pixels, wanted)
        indices = sorted({*wanted.values(), blocks - 1})
        found = visual.forward_intermediates(pixels, indices=indices, output_fmt="NCHW")
        maps = dict(zip(indices, found["image_intermediates"]))
        hidden = {block: maps[index] for block, index in wanted.items()}
        return Seen(_projected(visual, maps[blocks - 1]), found["image_features"], hidden)

    def _see_timm(self, visual: Any, pixels: Tensor, wanted: dict[int, int]) -> Seen:
        trunk = visual.trunk
        if wanted:
            indices = sorted(set(wanted.values()))
            features, maps = trunk.forward_intermediates(
                pixels, indices=indices, norm=False, output_fmt="NCHW"
            )
            found = dict(zip(indices, maps))
        else:
            features, found = trunk.forward_features(pixels), {}
        cells = as_maps(trunk, dense_head(trunk, features, pre_logits=False), pixels.shape[2:])
        projected = visual.head(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        pooled = visual.head(trunk.forward_head(features))
        return Seen(projected, pooled, {block: found[index] for block, index in wanted.items()})

    def no_weight_decay(self) -> frozenset[str]:
        """Return what open_clip declares: positions and the class embedding.

        Its training script heeds that with timm's optimizers; its own AdamW lets positions decay.
        """
        if isinstance(self.visual, TimmModel):
            return under("visual.trunk.", spared(self.visual.trunk))
        return under("visual.", spared(self.visual))

    def layers(self) -> list[nn.Module]:
        """Return stem, blocks and projection in order."""
        return by_depth(self.visual, _depths(self.visual))


def build(name: str, *, size: tuple[int, int], pretrained: str | None) -> tuple[int, Any]:
    """Return the width of the shared space and the visual tower for images of this size.

    Raises:
        ValueError: an unknown name or tag, or a size it can't take.
        DataError: weights that can't be downloaded or read.
    """
    settings = open_clip.get_model_config(name)
    if settings is None:
        raise ValueError(
            f"open_clip has no model {name!r}.{nearest(name, open_clip.list_models())}"
        )
    settings = deepcopy(settings)
    width = int(settings["embed_dim"])
    side = size[0] if size[0] == size[1] else size
    # Dropped patches would leave no map to read; open_clip drops none unless a config says so.
    settings["vision_cfg"].update(image_size=side, timm_model_pretrained=False, patch_dropout=0.0)
    if pretrained is not None:
        return width, _trained(name, side, pretrained)
    # open_clip builds both towers; the text tower of a Hugging Face kind would need the network,
    # so a tiny one of open_clip's own stands in its place.
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    try:
        with contained():
            model: Any = open_clip.CLIP(
                embed_dim=width,
                vision_cfg=settings["vision_cfg"],
                text_cfg=text,
                quick_gelu=settings.get("quick_gelu", False),
            )
            visual = _sized(model.visual, size)
    except Exception as error:  # from open_clip, timm or torch, whichever the size does not suit
        raise ValueError(
            f"open_clip can't build {name!r} for {size[0]} x {size[1]}: {error}"
        ) from error
    return width, visual


def statistics(name: str, tag: str) -> MeanStd | None:
    """Return what the weights of a tag were trained with; None for a file."""
    known = open_clip.get_pretrained_cfg(name, tag)
    if not known:
        return None
    defaults = open_clip.constants
    mean = known.get("mean") or defaults.OPENAI_DATASET_MEAN
    return tuple(mean), tuple(known.get("std") or defaults.OPENAI_DATASET_STD)


def _trained(name: str, side: int | tuple[int, int], pretrained: str) -> Any:
    tags = open_clip.list_pretrained_tags_by_model(name)
    local = Path(pretrained).is_file()
    if not local and pretrained not in tags:
        raise ValueError(
            f"open_clip has no weights {pretrained!r} for {name!r}, and no file is there."
            f"{nearest(pretrained, tags)}"
        )
    try:
        with contained():
            model = open_clip.create_model(
                name, pretrained=pretrained, force_image_size=side, force_patch_dropout=0.0
            )
    except Exception as error:  # any library between open_clip and the network may raise its own
        if local:
            reason = " ".join(str(error).split())[:300]
            raise DataError(
                f"{pretrained}: no weights of open_clip's {name!r}: {reason}"
            ) from error
        what = f"open_clip model {name!r} ({pretrained})"
        raise DataError(download_failed(what, error)) from error
    return model.visual


def _sized(visual: Any, size: tuple[int, int]) -> Any:
    if isinstance(visual, TimmModel) and hasattr(visual.trunk, "set_input_size"):
        visual.set_input_size(size)
    return visual


def _count(visual: Any) -> int:
    if isinstance(visual, TimmModel):
        return len(visual.trunk.feature_info)
    return 5 if isinstance(visual, ModifiedResNet) else len(visual.transformer.resblocks)


def _projected(
    visual: Any, maps: Float[Tensor, "image hidden row column"]
) -> Float[Tensor, "image width row column"]:
    cells = maps.permute(0, 2, 3, 1)
    if isinstance(visual, ModifiedResNet):
        pool = visual.attnpool
        return pool.c_proj(pool.v_proj(cells)).permute(0, 3, 1, 2)
    assert isinstance(visual, VisionTransformer)
    if visual.attn_pool is not None:
        pooler = visual.attn_pool_contrastive
        cells = _value_path(visual.attn_pool if pooler is None else pooler, cells)
    return (visual.ln_post(cells) @ visual.proj).permute(0, 3, 1, 2)


def _value_path(
    pooler: AttentionalPooler, cells: Float[Tensor, "image row column hidden"]
) -> Float[Tensor, "image row column width"]:
    """Return what the pooler makes of each cell alone: with one key, every weight is 1."""
    attention = pooler.attn
    width = attention.embed_dim
    weight = attention.v_proj_weight
    if weight is None:  # torch keeps the three in one where their sizes allow
        weight = attention.in_proj_weight[2 * width :]
    values = nn.functional.linear(pooler.ln_k(cells), weight, attention.in_proj_bias[2 * width :])
    projected: Tensor = attention.out_proj(values)
    return projected


def _depths(visual: Any) -> dict[str, int]:
    names = [name for name, _ in visual.named_parameters()]
    if isinstance(visual, TimmModel):
        trunk = depths(visual.trunk, "trunk.")
        last = max(trunk.values()) + 1
        return {name: trunk.get(name, last) for name in names}
    if isinstance(visual, ModifiedResNet):
        pattern = re.compile(r"layer(\d+)\.")
        last_part: tuple[str, ...] = ("attnpool.",)
    else:
        pattern = re.compile(r"transformer\.resblocks\.(\d+)\.")
        last_part = ("ln_post.", "proj", "attn_pool")
    last = _count(visual) + 1

    def depth(name: str) -> int:
        if name.startswith(last_part):
            return last
        found = pattern.match(name)
        return 1 + int(found[1]) if found else 0

    return {name: depth(name) for name in names}
