"""Noise by hashing: a number for each token that depends on what it is, not on where it lies."""

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal.packed.layout import Layout

# Multipliers and shifts of splitmix64's finaliser, as signed 64-bit numbers.
_FIRST = -4658895280553007687  # 0xbf58476d1ce4e5b9
_SECOND = -7723592293110705685  # 0x94d049bb133111eb
_STEP = -7046029254386353131  # 0x9e3779b97f4a7c15


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Return splitmix64's finaliser of each number; wraps around like the original."""
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def hash_words(*words: object) -> int:
    """Return a signed 64-bit hash of words, the same in every process."""
    text = "\x1f".join(str(word) for word in words).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def uniform(
    keys: Int[Tensor, " sample"], layout: Layout, *, seed: int, step: int, name: str
) -> Float[Tensor, " token"]:
    """Return noise in [0, 1) for each token, hashed from (seed, step, name, sample, place).

    The place is the token's number among its sample's tokens, so the same sample draws the same
    numbers in any batch, at any position, on any device.
    """
    return _bits(_hashed(keys, layout, seed, step, name)).to(torch.float32) * 2.0**-24


def normal(
    keys: Int[Tensor, " sample"], layout: Layout, width: int, *, seed: int, step: int, name: str
) -> Float[Tensor, "token width"]:
    """Return standard normal noise, `width` numbers a token, hashed as `uniform` is.

    Each is the normal quantile of a hash of 24 bits, so that none lies beyond 5.4.
    """
    token = _hashed(keys, layout, seed, step, name)[:, None]
    column = torch.arange(1, width + 1, device=token.device)
    share = (_bits(mix(token + column * _STEP)).double() + 0.5) * 2.0**-24  # never 0 or 1
    return torch.special.ndtri(share).float()


def _hashed(keys: Tensor, layout: Layout, seed: int, step: int, name: str) -> Tensor:
    """Return a hash of each token."""
    place = layout.within
    if layout.owner is not None:
        seen = [0] * layout.samples
        skip = []
        for owner, length in zip(layout.owners, layout.lengths, strict=True):
            skip.append(seen[owner])
            seen[owner] += length
        place = place + torch.tensor(skip, dtype=torch.int64, device=place.device)[layout.segment]
    sample = mix(keys ^ hash_words(seed, step, name))
    return mix(sample[layout.sample] + (place + 1) * _STEP)


def _bits(hashed: Tensor) -> Tensor:
    return _shift(hashed, 40)  # 24 bits: exact in float32
