"""Masked node modelling: hide the features of some nodes and predict them (GraphMAE)."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.component import FromRun, Need, StreamInfo, StreamName
from polymodal.layout import Layout
from polymodal.objective import Loss, Objective
from polymodal.step import Step
from polymodal.tokens import Tokens
from polymodal_masking.choice import Choice, check_ratio, choose, hidden_counts
from polymodal_masking.context import Context, at
from polymodal_masking.losses import patch_loss, scaled_cosine_error
from polymodal_masking.simmim import replaced


def propagated(
    vectors: Float[Tensor, "token width"], layout: Layout
) -> Float[Tensor, "token width"]:
    """Return each node's sum over itself and its in-neighbours, over the roots of both degrees.

    The propagation of a graph convolution (Kipf and Welling, 2017, eq. 2): edges run from source to
    target, and every node has a loop to itself.
    """
    if layout.edges is None:
        return vectors
    source, target = layout.edges
    # Counted in float32: half precision has no whole numbers past 256 or 2048.
    degree = torch.ones(layout.tokens, device=vectors.device)
    degree = degree.index_add(0, target, torch.ones_like(target, dtype=degree.dtype))
    scale = degree.rsqrt()
    carried = vectors[source] * (scale[source] * scale[target])[:, None].to(vectors.dtype)
    return (vectors / degree[:, None].to(vectors.dtype)).index_add(0, target, carried)


class MaskedNodes(Objective):
    """Hide the features of a share of a graph's nodes and predict them (Hou et al., 2022).

    Hidden nodes get a learned token for features (zero at the start); a share `replace` of them
    gets another node's features of the same graph instead. With the `graph` decoder, vectors go
    through a linear map, those of hidden nodes are set to zero again (re-masking, section 3.2),
    and one graph convolution fills them in; with the `linear` one the vectors are read as they
    are. Each hidden node is one count. Nodes with ids instead of features: `masking.tokens`.

    Args:
        info: the streams.
        stream: whose nodes are hidden; it has values.
        ratio: share of each graph's nodes to hide, rounded down; a lone node stays.
        replace: share of the hidden nodes that get another node's features.
        loss: "cosine" (scaled, to the power `alpha`), "mse" (mean over features), or
            "cross_entropy" (features are one-hot).
        alpha: power of the cosine loss.
        decoder: "graph" or "linear".

    Raises:
        ValueError: a share out of range, or a stream without values or edges.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        ratio: float = 0.5,
        replace: float = 0.0,
        loss: Literal["cosine", "mse", "cross_entropy"] = "cosine",
        alpha: float = 2.0,
        decoder: Literal["graph", "linear"] = "graph",
    ):
        super().__init__()
        self.context = Context.of(info, "masking.nodes", stream, [], None, None)
        self.need = Need(values=True, edges=decoder == "graph")
        spec = info[stream].spec
        self.need.check(info, stream)
        if not 0 <= replace <= 1:
            raise ValueError(f"replace must lie between 0 and 1, got {replace}")
        if alpha < 1:
            raise ValueError(f"alpha must be 1 or more, got {alpha}")
        self.stream = stream
        self.ratio = check_ratio(ratio)
        self.replace = replace
        self.loss = loss
        self.alpha = alpha
        self.token = nn.Parameter(torch.zeros(spec.features))
        width = info[stream].width
        self.bridge = nn.Linear(width, width, bias=False) if decoder == "graph" else None
        self.head = nn.Linear(width, spec.features)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values and, for the graph decoder, edges."""
        return {self.stream: self.need}

    def _choose(self, step: Step, tokens: Tokens) -> Choice:
        counts = hidden_counts(tokens.layout.lengths, self.ratio, rounding="down", leave=1)
        return choose(self.context.noise(step, "choice", None), tokens.layout, counts)

    def _masked(self, step: Step, tokens: Tokens, rows: Tensor) -> Tokens:
        """Return tokens with hidden features replaced by the token, or by another node's."""
        assert tokens.values is not None
        values = replaced(tokens.values, rows, self.token)
        if self.replace:
            layout = tokens.layout
            segment = layout.segment[rows]
            draw = self.context.noise(step, "draw", None)[rows]
            length = layout.offsets.diff()[segment]
            other = layout.offsets[segment] + (draw * length).long()
            swap = self.context.noise(step, "dice", None)[rows] < self.replace
            new = torch.where(swap[:, None], tokens.values[other], values[rows])
            values = values.index_put((rows,), new)
        return tokens.with_rows(values)

    def forward(self, step: Step) -> Loss:
        """Return the loss over hidden nodes."""
        tokens = step.tokens(self.stream)
        assert tokens.values is not None
        rows = self._choose(step, tokens).hidden
        encoded = step.encode_tokens(self.stream, self._masked(step, tokens, rows))
        if self.bridge is None:
            vectors = at(encoded, rows)
        else:
            every = torch.arange(tokens.layout.tokens, device=rows.device)
            bridged = self.bridge(at(encoded, every)).index_fill(0, rows, 0)
            vectors = propagated(bridged, tokens.layout)[rows]
        predicted, target = self.head(vectors), tokens.values[rows]
        if self.loss == "cosine":
            each = scaled_cosine_error(predicted, target, alpha=self.alpha)
        elif self.loss == "mse":
            each = patch_loss(predicted, target)
        else:
            each = F.cross_entropy(predicted.float(), target.argmax(dim=1), reduction="none")
        with torch.no_grad():
            right = (predicted.argmax(dim=1) == target.argmax(dim=1)).sum()
        metrics = {"accuracy": (right, len(rows))} if self.loss == "cross_entropy" else {}
        return Loss(each.sum(), len(rows), metrics)

    def count(self, step: Step) -> int:
        """Return how many nodes will be hidden."""
        return len(self._choose(step, step.tokens(self.stream)).hidden)
