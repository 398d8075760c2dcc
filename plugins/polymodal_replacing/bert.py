"""The mask id, another id, or what was there."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal import Candidates, Hidden, Need, Replacing, StreamInfo, Tokens


class Bert(Replacing):
    """Turn a share of the hidden ids into the mask id, a share into another, and leave the rest.

    With `random` 1 and `mask` 0 it is the replacement of random token substitution and of swapped
    language modelling (Di Liello, 2023): the model never sees a mask.

    Args:
        mask: share of the hidden tokens that turn into the mask id.
        random: share of the hidden tokens that turn into another id.

    Raises:
        ValueError: shares out of range, or a stream without ids or mask id.
    """

    ordinary: Tensor

    def __init__(self, *, mask: float = 0.8, random: float = 0.1):
        super().__init__()
        if mask < 0 or random < 0 or mask + random > 1:
            raise ValueError(
                f"mask and random must not be negative nor pass 1 together, got {mask} and {random}"
            )
        self.mask = mask
        self.random = random

    def need(self) -> Need:
        """Return that the stream must have ids, and a mask id where one is put in."""
        return Need(ids=True, special=("mask",) if self.mask else ())

    def bind(self, info: StreamInfo) -> None:
        """Learn of the mask id, and of the ids that are not special."""
        special = set(info.spec.special.values())
        ordinary = [i for i in range(info.spec.vocabulary) if i not in special]
        self.mask_id = info.spec.special.get("mask", 0)
        self.register_buffer("ordinary", torch.tensor(ordinary or [0]), persistent=False)

    def replace(self, hidden: Hidden, among: Candidates) -> Tokens:
        """Return the tokens with other ids."""
        tokens = hidden.tokens
        assert tokens.ids is not None
        dice = hidden.drawn(among.noise("dice"))
        if hidden.counted is not None:
            dice = dice.masked_fill(~hidden.counted, 1)  # stays as it is
        ids = corrupted(
            tokens.ids,
            hidden.rows,
            dice,
            hidden.drawn(among.noise("draw")),
            mask=self.mask_id,
            ordinary=self.ordinary,
            replace=self.mask,
            random=self.random,
        )
        return tokens.with_rows(ids)


def corrupted(
    ids: Int[Tensor, " token"],
    rows: Int[Tensor, " hidden"],
    dice: Float[Tensor, " hidden"],
    draw: Float[Tensor, " hidden"],
    *,
    mask: int,
    ordinary: Int[Tensor, " ordinary"],
    replace: float,
    random: float,
) -> Int[Tensor, " token"]:
    """Return ids with these rows replaced (BERT, Devlin et al., 2019, section 3.1).

    A share `replace` becomes the mask id, `random` some ordinary id by `draw`, the rest stays.
    """
    place = (draw * len(ordinary)).long().clamp(max=len(ordinary) - 1)
    new = torch.where(dice < replace + random, ordinary[place], ids[rows])
    new = torch.where(dice < replace, mask, new)
    return ids.index_copy(0, rows, new)
