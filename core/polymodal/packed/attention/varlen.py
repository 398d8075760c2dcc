"""Attention by torch's variable-length kernel: CUDA, half precision, no bias."""

from jaxtyping import Float
from torch import Tensor

from polymodal.packed.attention.pairing import Pairing
from polymodal.packed.attention.scores import Rule


def by_varlen(
    q: Float[Tensor, "query head dim"],
    k: Float[Tensor, "key head dim"],
    v: Float[Tensor, "key head dim"],
    pairing: Pairing,
    *,
    rule: Rule,
    scale: float,
) -> Float[Tensor, "query head dim"]:
    """Return attention of the rows used. Segments with no queries or no keys never reach it."""
    from torch.nn.attention.varlen import varlen_attn  # pulls in torch._dynamo: 1 s

    reach = -1 if rule.window is None else rule.window
    # A tuple: torch 2.11 to 2.14 compare it with ==, and would not know a list.
    window = (reach, 0) if rule.causal else (reach, reach)
    queries, keys = pairing.boundaries
    out: Tensor = varlen_attn(
        q.contiguous(), k.contiguous(), v.contiguous(), queries, keys,
        max(pairing.queries), max(pairing.keys), scale=scale, window_size=window,
    )  # type: ignore[assignment]  # fmt: skip
    return out
