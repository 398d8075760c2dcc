"""The packed transformer over the nodes of a graph, attention biased by its edges."""

from typing import Literal, Unpack

from polymodal import FromRun, TokenSpec, TransformerEncoder, TransformerOptions


class GraphTransformer(TransformerEncoder):
    """A transformer whose attention knows the edges, and no order of the nodes.

    Every node sees every node of its graph, with a bias where there is an edge, by the edge's kind
    and values (after Ying et al., Graphormer, 2021); with `edges: restrict` it sees its neighbours
    alone. The core's encoder with the defaults a graph wants: the numbers of nodes mean
    nothing, so no positions are added.

    Args:
        spec: what the tokens are like.
        pool: "mean" over the nodes, a "class" token, or the "first" or "last" node.
        registers: further tokens that live inside the trunk, joined to every node.
        edges: "bias" attention where there is an edge, "restrict" it to edges, or "ignore" them.
        sizes: how large it is, and how its blocks are made; see `TransformerOptions`.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        pool: Literal["mean", "class", "first", "last"] = "mean",
        registers: int = 0,
        edges: Literal["bias", "restrict", "ignore"] = "bias",
        **sizes: Unpack[TransformerOptions],
    ):
        super().__init__(
            spec,
            positions="none",
            pool=pool,
            registers=registers,
            edges=edges,
            **sizes,
        )
