"""What matching and ranking share: a score for pairs of samples, seen together through a fusion."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import Encoded, Model, Need, Objective, Step, StreamInfo
from polymodal_contrastive.losses import single
from polymodal_contrastive.pairs import check_streams, fields_read, needed, sample_keys
from polymodal_fusion import check_fusion, fuse


class PairObjective(Objective):
    """Scores how well two streams of (different) samples go together, by an mlp over fused vectors.

    The weights have the same names in all of its kinds, so that one can start from another.

    Args:
        info: the streams.
        streams: the two.
        fusion: name of the fusion that sees both.
        fusion_width: of the fusion's vectors; the first stream's unless given.
        read: the fused parts whose pooled vectors are read; both streams unless given.
        same: a stream or a field; samples equal in it are no wrong pair.

    Raises:
        ValueError: not two different known streams, or nothing to read.
    """

    separable = False

    def __init__(
        self,
        info: Mapping[str, StreamInfo],
        streams: Sequence[str],
        *,
        fusion: str,
        fusion_width: int | None,
        read: Sequence[str] | None,
        same: str | None,
    ):
        super().__init__()
        check_streams(info, streams, least=2)
        if len(streams) != 2:
            raise ValueError(f"streams must be two, got {list(streams)}")
        if read is not None and not read:
            raise ValueError("read must name one of the fused parts or more, got none")
        self.streams = (streams[0], streams[1])
        self.fusion = fusion
        self.width = info[streams[0]].width if fusion_width is None else fusion_width
        self.read = self.streams if read is None else tuple(read)
        self.same = same
        self.needed = needed(info, streams, same)
        self.fields_read = fields_read(info, same)
        self.head = nn.Sequential(
            nn.Linear(len(self.read) * self.width, self.width),
            nn.GELU(),
            nn.Linear(self.width, 1),
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams compared, and the one that `same` names; any tokens will do."""
        return self.needed

    def fields(self) -> tuple[str, ...]:
        """Return the fields it reads."""
        return self.fields_read

    def uses(self) -> tuple[str, ...]:
        """Return the fusion."""
        return (self.fusion,)

    def attach(self, model: Model) -> None:
        """Refuse a fusion that does not fit.

        Raises:
            ValueError: it reads other streams, or its vectors have another width.
        """
        check_fusion(model.module(self.fusion), self.streams, width=self.width)

    def keys(self, step: Step) -> list[int] | None:
        """Return a number for each sample, equal where samples are no wrong pair; None: all are."""
        return None if self.same is None else sample_keys(step, self.same).tolist()

    def score(
        self, step: Step, pairs: Sequence[tuple[int, int]]
    ) -> tuple[Float[Tensor, " pair"], Mapping[str, Encoded]]:
        """Return the score of each pair, in float32 or wider, and the fused parts behind it.

        A pair is the sample whose first stream it has and the one whose second stream.

        Raises:
            ValueError: the fusion returns no part that `read` names.
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
