"""All tokens of one kind."""

import torch

from polymodal import Candidates, Choice, Hidden, Hiding, StreamInfo


class WholeKind(Hiding):
    """Hide every token of a kind: the tags of a diff's lines, say (CodeReviewer, section 3.2.1).

    Args:
        kind: as the tokenizer names it.

    Raises:
        ValueError: the stream's tokens have no such kind.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def bind(self, info: StreamInfo) -> None:
        """Refuse a kind that the stream has not."""
        kinds = info.spec.kinds
        if self.kind not in kinds:
            raise ValueError(
                f"kind must be one of the stream's kinds ({', '.join(kinds)}), got {self.kind!r}"
            )

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden; waits for the device."""
        layout = among.tokens.layout
        kinds = layout.kinds
        if kinds is None:  # all of the first kind
            kinds = torch.zeros_like(layout.segment)
        chosen = kinds == among.spec.kinds.index(self.kind)
        return Hidden(among.tokens, Choice.of_mask(chosen, layout))
