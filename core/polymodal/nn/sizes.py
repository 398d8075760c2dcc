"""The options that everything made of transformer blocks shares, and sizes by name."""

from typing import Annotated, Final, Literal, TypedDict

from polymodal.interfaces.groups import Default, Presets
from polymodal.nn.blocks import Activation, Norm
from polymodal.nn.checkpointing import Checkpointing

SizeName = Literal["pico", "nano", "micro", "tiny", "small", "base", "large", "huge"]

SIZES: Final[dict[str, dict[str, int]]] = {  # from tiny on, those of timm's ViT
    "pico": {"width": 64, "depth": 2, "heads": 2},
    "nano": {"width": 128, "depth": 4, "heads": 4},
    "micro": {"width": 192, "depth": 6, "heads": 3},
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "huge": {"width": 1280, "depth": 32, "heads": 16},
}


class BlockOptions(TypedDict, total=False):
    """How the blocks of a transformer are made.

    Args:
        mlp_ratio: hidden width of the perceptrons, in widths.
        norm: "pre" normalises each branch's input and the result, "post" each sum.
        activation: "gelu" or "swiglu".
        dropout: of attention weights and of each branch.
        drop_path: share of segments that skip a branch, rising from 0 at the first block to this
            at the last (Huang et al., 2016).
        gradient_checkpointing: work out again in the backward pass, to save memory: true every
            block, "alternate" every second one, "selective" in every block what is cheap (norms,
            activations), while attention and matrix products are kept.
    """

    mlp_ratio: Annotated[float, Default(4.0)]
    norm: Annotated[Norm, Default("pre")]
    activation: Annotated[Activation, Default("gelu")]
    dropout: Annotated[float, Default(0.0)]
    drop_path: Annotated[float, Default(0.0)]
    gradient_checkpointing: Annotated[Checkpointing, Default(False)]


class TransformerOptions(BlockOptions, total=False):
    """How large a transformer is, and how its blocks are made.

    Args:
        size: width, depth and heads by name; from tiny on, those of timm's ViT.
        width: instead of the size's.
        depth: instead of the size's.
        heads: instead of the size's; with a width alone, heads of 64 channels.
        stem_norm: a layer norm of what enters the blocks, as in BERT.
    """

    size: Annotated[SizeName | None, Default(None), Presets(SIZES)]
    width: Annotated[int | None, Default(None)]
    depth: Annotated[int | None, Default(None)]
    heads: Annotated[int | None, Default(None)]
    stem_norm: Annotated[bool, Default(False)]


def dimensions(options: TransformerOptions) -> tuple[int, int, int]:
    """Return width, depth and heads.

    Raises:
        ValueError: a size unknown, or neither a size nor both width and depth.
    """
    size, width = options.get("size"), options.get("width")
    depth, heads = options.get("depth"), options.get("heads")
    names = ", ".join(SIZES)
    if size is not None:
        if size not in SIZES:
            raise ValueError(f"size must be one of {names}, got {size!r}")
        preset = SIZES[size]
        chosen = width or preset["width"]
        own_heads = preset["heads"] if chosen == preset["width"] else max(1, chosen // 64)
        return chosen, preset["depth"] if depth is None else depth, heads or own_heads
    if width is None or depth is None:
        raise ValueError(f"give a size ({names}), or both width and depth")
    return width, depth, heads or max(1, width // 64)
