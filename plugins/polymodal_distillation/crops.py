"""The views of self-distillation: two large ones for teacher and student, small ones beside."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import Encoded, Model, Need, Step, StreamInfo, Tokens, View


@dataclass(frozen=True)
class Crops:
    """Two views of `stream`, and `count` of `local`: another stream of the same field and encoder.

    The first view of each is the stream itself, the others draw the random augmentation of its
    tokenizer anew.
    """

    stream: str
    local: str | None
    count: int

    @classmethod
    def of(
        cls, info: Mapping[str, StreamInfo], stream: str, local: str | None, count: int
    ) -> "Crops":
        """Return the views that these options say.

        Raises:
            ValueError: an unknown stream, one stream for both, or no local crop.
        """
        for name in (stream, local):
            if name is not None:
                Need().check(info, name)
        if local == stream:
            raise ValueError(f"local must be a stream other than {stream!r}, of smaller crops")
        if count < 1:
            raise ValueError(f"local_crops must be 1 or more, got {count}")
        return cls(stream, local, count if local is not None else 0)

    @property
    def needs(self) -> dict[str, Need]:
        """The streams; any tokens will do."""
        return {name: Need() for name in (self.stream, self.local) if name is not None}

    @property
    def views(self) -> dict[str, View]:
        """The further views."""
        again = {"again": View(self.stream)}
        if self.local is not None:
            again |= {f"local_{n}": View(self.local) for n in range(1, self.count)}
        return again

    def check(self, model: Model) -> None:
        """Refuse small crops with an encoder of their own.

        Raises:
            ValueError: what to write.
        """
        if self.local is not None and model.encoder(self.local) is not model.encoder(self.stream):
            raise ValueError(
                f"streams {self.stream!r} and {self.local!r} must share one encoder: name it under "
                "'encoders'"
            )

    def large(self, step: Step) -> list[Tokens]:
        """Return the two views that teacher and student see."""
        return [step.tokens(self.stream), step.tokens(f"{step.objective}/again")]

    def small(self, step: Step) -> list[Tokens]:
        """Return the views that the student alone sees."""
        if self.local is None:
            return []
        further = [step.tokens(f"{step.objective}/local_{n}") for n in range(1, self.count)]
        return [step.tokens(self.local), *further]

    def rows(self, step: Step) -> list[int]:
        """Return the samples that have all streams."""
        return step.rows_with(*self.needs)


def by_view(encoded: Encoded, rows: list[int], *, views: int) -> Float[Tensor, "view row width"]:
    """Return the pooled rows of some samples in each view of a stack of so many."""
    pooled = encoded.pooled_rows()
    pooled = pooled.reshape(views, len(pooled) // views, encoded.width)
    return pooled[:, torch.tensor(rows, dtype=torch.int64, device=pooled.device)]
