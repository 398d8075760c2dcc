"""The packed transformer over the nodes of a graph, attention biased by its edges."""

from typing import Literal

from polymodal import Checkpointing, FromRun, SizeName, TokenSpec, TransformerEncoder


class GraphTransformer(TransformerEncoder):
    """A transformer whose attention knows the edges, and no order of the nodes.

    Every node sees every node of its graph, with a bias where there is an edge, by the edge's kind
    and values (after Ying et al., Graphormer, 2021); with `edges: restrict` it sees its neighbours
    alone. The core's encoder with the defaults a graph wants: the numbers of nodes mean
    nothing, so no positions are added. See `polymodal.transformer_encoder.TransformerEncoder` for
    the options.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        size: SizeName | None = None,
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        mlp_ratio: float = 4.0,
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "swiglu"] = "gelu",
        pool: Literal["mean", "class", "first", "last"] = "mean",
        registers: int = 0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        edges: Literal["bias", "restrict", "ignore"] = "bias",
        gradient_checkpointing: Checkpointing = False,
    ):
        super().__init__(
            spec,
            size=size,
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            norm=norm,
            activation=activation,
            positions="none",
            pool=pool,
            registers=registers,
            dropout=dropout,
            drop_path=drop_path,
            edges=edges,
            gradient_checkpointing=gradient_checkpointing,
        )
