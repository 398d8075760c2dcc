"""Masked node modelling: hide some nodes' features and predict them (GraphMAE, GraphMAE2)."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    Choice,
    Encoded,
    FromRun,
    Layout,
    Loss,
    Model,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Teacher,
    Tokens,
    check_ratio,
    choose,
    hidden_counts,
)
from polymodal_masking.context import Context, at
from polymodal_masking.losses import scaled_cosine_error
from polymodal_replacing import replaced
from polymodal_targets import patch_loss


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
    carried = vectors.index_select(0, source) * (scale[source] * scale[target])[:, None].to(
        vectors.dtype
    )
    return (vectors / degree[:, None].to(vectors.dtype)).index_add(0, target, carried)


class MaskedNodes(Objective):
    """Hide the features of a share of a graph's nodes and predict them (Hou et al., 2022).

    Hidden nodes get a learned token for features (zero at the start); a share `replace` of them
    gets another node's features of the same graph instead. With the `graph` decoder, vectors go
    through a linear map, those of hidden nodes are set to zero again (re-masking, section 3.2),
    and one graph convolution fills them in, with a loop at every node whether the graph has them or
    not; with the `linear` one the vectors are read as they are. Each hidden node is one count.
    Nodes with ids instead of features: `masking.tokens`.

    GraphMAE2 (Hou et al., 2023) is `remask: random` (section 3.2: a learned token takes the place
    of a random share of all nodes' vectors, several times, whose losses are added) and a `latent`
    term (section 3.3): visible nodes' vectors, projected and through a predictor, point where those
    of a slow copy do that sees the whole graph.

    Args:
        info: the streams.
        stream: whose nodes are hidden; it has values.
        ratio: share of each graph's nodes to hide, rounded down; a lone node stays.
        replace: share of the hidden nodes that get another node's features.
        loss: "cosine" (scaled, to the power `alpha`), "mse" (mean over features), or
            "cross_entropy" (features are one-hot).
        alpha: power of the cosine loss.
        decoder: "graph" or "linear".
        remask: which nodes' vectors the graph decoder does not see: the hidden ones ("fixed", as
            zeros), or a random share.
        remask_ratio: that share, rounded down as in GraphMAE2's code.
        remasks: how many times it is drawn.
        latent: weight of the latent term; 0 for none, 0.5 in GraphMAE2.
        latent_hidden: width of the hidden layer of its projector.
        momentum: of the slow copy, the same all the time.

    Raises:
        ValueError: a number out of range, random re-masking without the graph decoder, or a stream
            without values or edges.
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
        remask: Literal["fixed", "random"] = "fixed",
        remask_ratio: float = 0.5,
        remasks: int = 3,
        latent: float = 0.0,
        latent_hidden: int = 256,
        momentum: float = 0.996,
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
        if remask == "random" and decoder != "graph":
            raise ValueError("remask: random is what the graph decoder does not see")
        if not 0 < remask_ratio < 1 or not 0 <= momentum <= 1:
            raise ValueError(
                "remask_ratio must lie between 0 and 1 and momentum from 0 to 1, got "
                f"{remask_ratio} and {momentum}"
            )
        if min(remasks, latent_hidden) < 1 or latent < 0:
            raise ValueError(
                "remasks and latent_hidden must be at least 1 and latent not negative, got "
                f"{remasks}, {latent_hidden} and {latent}"
            )
        self.stream = stream
        self.ratio = check_ratio(ratio)
        self.replace = replace
        self.loss = loss
        self.alpha = alpha
        self.token = nn.Parameter(torch.zeros(spec.features))
        width = info[stream].width
        self.bridge = nn.Linear(width, width, bias=False) if decoder == "graph" else None
        self.head = nn.Linear(width, spec.features)
        self.remask_ratio = remask_ratio
        self.remasks = remasks if remask == "random" else 1
        self.remask_token = nn.Parameter(torch.zeros(width)) if remask == "random" else None
        self.latent = latent
        self.momentum = momentum
        if latent:
            self.projector = _perceptron(width, latent_hidden)
            self.predictor = nn.Sequential(nn.PReLU(), nn.Linear(width, width))
            self.slow_projector = Teacher(self.projector)

    def attach(self, model: Model) -> None:
        """Take a slow copy of the encoder for the latent term."""
        if self.latent:
            self.slow_encoder = Teacher(model.encoder(self.stream))

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
        choice = self._choose(step, tokens)
        rows = choice.hidden
        encoded = step.encode_tokens(self.stream, self._masked(step, tokens, rows))
        predicted = self.head(self._decoded(step, tokens.layout, encoded, rows))
        target = tokens.values[rows].repeat(self.remasks, 1)
        if self.loss == "cosine":
            each = scaled_cosine_error(predicted, target, alpha=self.alpha)
        elif self.loss == "mse":
            each = patch_loss(predicted, target)
        else:
            each = F.cross_entropy(predicted.float(), target.argmax(dim=1), reduction="none")
        with torch.no_grad():
            right = (predicted.argmax(dim=1) == target.argmax(dim=1)).sum()
        metrics: dict[str, tuple[Tensor, int]] = {}
        if self.loss == "cross_entropy":
            metrics["accuracy"] = (right, len(predicted))
        total = each.sum()
        if self.latent:
            aside = self._latent(tokens, encoded, choice)
            metrics["latent"] = (aside.detach(), len(rows))
            total = total + self.latent * aside
        return Loss(total, len(rows), metrics)

    def _decoded(
        self, step: Step, layout: Layout, encoded: Encoded, rows: Tensor
    ) -> Float[Tensor, "scored width"]:
        """Return the hidden nodes' vectors that the head reads, once for each re-masking."""
        if self.bridge is None:
            return at(encoded, rows)
        every = torch.arange(layout.tokens, device=rows.device)
        bridged = self.bridge(at(encoded, every))
        if self.remask_token is None:
            return propagated(bridged.index_fill(0, rows, 0), layout)[rows]
        counts = hidden_counts(layout.lengths, self.remask_ratio, rounding="down")
        found = []
        for number in range(self.remasks):
            noise = self.context.noise(step, f"remask/{number}", None)
            again = choose(noise, layout, counts).hidden
            found.append(propagated(replaced(bridged, again, self.remask_token), layout)[rows])
        return torch.cat(found)

    def _latent(self, tokens: Tokens, encoded: Encoded, choice: Choice) -> Float[Tensor, ""]:
        """Return the latent term, which counts as much in each graph as its hidden nodes do."""
        seen = choice.visible
        guess = self.predictor(self.projector(at(encoded, seen)))
        target = self.slow_projector(at(self.slow_encoder(tokens), seen))
        each = scaled_cosine_error(guess, target, alpha=1)
        pairs = zip(choice.hidden_lengths, choice.visible_lengths, strict=True)
        share = torch.tensor([hidden / max(left, 1) for hidden, left in pairs], dtype=each.dtype)
        return (each * share.to(each.device)[tokens.layout.segment[seen]]).sum()

    def after_update(self, step: Step) -> None:
        """Move the slow copies."""
        if self.latent:
            self.slow_encoder.follow(step.encoder(self.stream), self.momentum)
            self.slow_projector.follow(self.projector, self.momentum)

    def count(self, step: Step) -> int:
        """Return how many nodes will be hidden."""
        return len(self._choose(step, step.tokens(self.stream)).hidden)


def _perceptron(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.PReLU(), nn.Linear(hidden, width))
