"""A score for pairs of samples, seen together through a fusion."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.component import StreamInfo
from polymodal.model import PretrainingModel
from polymodal.step import Step
from polymodal.tokens import Encoded
from polymodal_contrastive.losses import single
from polymodal_fusion import check_fusion, fuse


class PairScore(nn.Module):
    """How well two streams of (different) samples go together, by an mlp over fused vectors.

    Objectives that share its weights, matching and ranking, hold it under one name, so that one can
    start from the other.

    Args:
        info: the streams.
        streams: the two.
        fusion: name of the fusion that sees both.
        width: of the fusion's vectors; the first stream's unless given.
        read: the fused parts whose pooled vectors are read; both streams unless given.

    Raises:
        ValueError: not two streams, or nothing to read; when called, a fusion without one of the
            parts.
    """

    def __init__(
        self,
        info: Mapping[str, StreamInfo],
        streams: Sequence[str],
        *,
        fusion: str,
        width: int | None = None,
        read: Sequence[str] | None = None,
    ):
        super().__init__()
        if len(streams) != 2:
            raise ValueError(f"streams must be two, got {list(streams)}")
        if read is not None and not read:
            raise ValueError("read must name one of the fused parts or more, got none")
        self.streams = (streams[0], streams[1])
        self.fusion = fusion
        self.width = info[streams[0]].width if width is None else width
        self.read = self.streams if read is None else tuple(read)
        self.head = nn.Sequential(
            nn.Linear(len(self.read) * self.width, self.width),
            nn.GELU(),
            nn.Linear(self.width, 1),
        )

    def check(self, model: PretrainingModel) -> None:
        """Refuse a fusion that does not fit.

        Raises:
            ValueError: it reads other streams, or its vectors have another width.
        """
        check_fusion(model.module(self.fusion), self.streams, width=self.width)

    def forward(
        self, step: Step, pairs: Sequence[tuple[int, int]]
    ) -> tuple[Float[Tensor, " pair"], Mapping[str, Encoded]]:
        """Return the score of each pair, in float32 or wider, and the fused parts behind it.

        A pair is the sample whose first stream it has and the one whose second stream.
        """
        parts = {
            stream: step.encode(stream).take([pair[side] for pair in pairs])
            for side, stream in enumerate(self.streams)
        }
        fused = fuse(step.module(self.fusion), parts, width=self.width)
        missing = [name for name in self.read if name not in fused]
        if missing:
            raise ValueError(f"read: the fusion returns no {missing[0]!r}, only {sorted(fused)}")
        pooled = torch.cat([fused[name].pooled_rows() for name in self.read], dim=1)
        return single(self.head(pooled)[:, 0]), fused
