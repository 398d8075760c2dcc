"""Beam search: the likeliest sequences, a few kept at a time (Graves, 2012)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import Layout, Tokens

Score = Callable[[Tokens], Float[Tensor, "segment vocabulary"]]


def beam_search(
    score: Score,
    *,
    samples: int,
    start: int,
    end: int,
    max_tokens: int,
    beams: int = 4,
    length_penalty: float = 1.0,
    device: torch.device | str = "cpu",
) -> list[list[int]]:
    """Return the best sequence found for each sample, without `start` and `end`.

    A sequence's score is its log-probability over length ** length_penalty, `end` counted: above 0
    favours long ones, below 0 short ones. Those that have not ended after `max_tokens` compete as
    they are. A sample is given up once nothing unfinished can pass what it has.

    Args:
        score: of the samples' prefixes, `beams` segments a sample, sample by sample: the
            log-probabilities of each one's next id.
        samples: how many.
        start: id that prefixes begin with.
        end: id that ends a sequence.
        max_tokens: of a sequence, `end` included.
        beams: sequences kept a sample.
        length_penalty: exponent of the length.
        device: where prefixes lie.

    Raises:
        ValueError: fewer than one beam or token.
    """
    if beams < 1 or max_tokens < 1:
        raise ValueError(f"beams and max_tokens must be 1 or more, got {beams} and {max_tokens}")
    if not samples:
        return []
    lowest = float("-inf")
    prefixes = torch.full((samples, beams, 1), start, device=device)
    open_scores = torch.full((samples, beams), lowest, device=device)
    open_scores[:, 0] = 0  # the beams begin alike: one of them is enough
    done = prefixes.new_full((samples, beams, max_tokens), end)
    done_scores = torch.full_like(open_scores, lowest)
    for length in range(1, max_tokens + 1):
        layout = Layout.of([length] * (samples * beams)).to(device)
        following = score(Tokens(layout, ids=prefixes.flatten())).float()
        vocabulary = following.shape[1]
        total = open_scores[..., None] + following.reshape(samples, beams, vocabulary)
        # Of twice as many, at most half end here: enough stay open.
        best, place = total.flatten(1).topk(min(2 * beams, beams * vocabulary), dim=1)
        parent, chosen = place // vocabulary, place % vocabulary
        grown = torch.cat(
            [prefixes.gather(1, parent[..., None].expand(-1, -1, length)), chosen[..., None]], dim=2
        )
        ended = (chosen == end) | (length == max_tokens)
        final = torch.where(ended, best / length**length_penalty, lowest)
        texts = torch.full((*chosen.shape, max_tokens), end, device=device)
        texts[..., :length] = grown[..., 1:]
        done_scores, kept = torch.cat([done_scores, final], dim=1).topk(beams, dim=1)
        done = torch.cat([done, texts], dim=1).gather(1, kept[..., None].expand(-1, -1, max_tokens))
        open_scores, kept = torch.where(ended, lowest, best).topk(beams, dim=1)
        prefixes = grown.gather(1, kept[..., None].expand(-1, -1, length + 1))
        # A log-probability only falls; its share by length is best at one end of what may come.
        reach = max_tokens if length_penalty > 0 else length + 1
        hope = open_scores[:, 0] / reach**length_penalty
        if bool((hope <= done_scores[:, 0]).all()):
            break
    return [_before(text, end) for text in done[:, 0].tolist()]


def _before(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
