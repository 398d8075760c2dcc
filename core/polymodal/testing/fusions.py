"""Checks of fusions."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from polymodal.interfaces.component import StreamInfo
from polymodal.interfaces.encoder import Fusion
from polymodal.packed.tokens import Encoded
from polymodal.testing.comparing import (
    PACKING_TOLERANCE,
    distance,
    random_state_kept,
    random_state_untouched,
)
from polymodal.testing.modules import (
    HALVES,
    check_encoded,
    descend,
    require_finite_gradients,
    require_gradients,
    scalar,
    through_a_file,
)
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import LENGTHS, TOY_STREAMS, WIDTH, toy_info, toy_tokens

Parts = Mapping[str, Encoded]
PARTLY = {0: [0, 2], 1: [0, 3]}  # samples without the first stream, and without the second


@dataclass
class FusionSubject:
    """A fusion under examination; `make` builds it from what is known of the streams."""

    make: Callable[[Mapping[str, StreamInfo]], Fusion]

    def built(self, seed: int = 0) -> Fusion:
        """Return a fresh fusion, its weights drawn with this seed."""
        with random_state_kept(seed):
            return self.make(toy_info())

    @cached_property
    def fusion(self) -> Fusion:
        """A fusion in evaluation mode, in float64."""
        return self.built().double().eval()

    def parts(
        self,
        lengths: Sequence[int] = LENGTHS,
        *,
        absent: Mapping[int, Sequence[int]] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> dict[str, Encoded]:
        """Return made-up vectors; `absent` tells, by number of the stream, samples without it."""
        found = {}
        for number, stream in enumerate(self.fusion.needs()):
            without = set((absent or {}).get(number, ()))
            sizes = [0 if s in without else length for s, length in enumerate(lengths)]
            layout = toy_tokens(TOY_STREAMS[stream].spec, sizes, seed=number).layout
            generator = torch.Generator().manual_seed(number)
            vectors = torch.randn(layout.tokens, WIDTH, generator=generator, dtype=torch.float64)
            found[stream] = Encoded.mean_pooled(layout, vectors.to(dtype))
        return found

    def fuse(self, parts: Parts) -> Parts:
        """Return fused vectors, without gradients."""
        with torch.no_grad():
            return self.fusion(parts)


def _take(parts: Parts, samples: Sequence[int]) -> dict[str, Encoded]:
    return {name: part.take(samples) for name, part in parts.items()}


def _require_same(first: Parts, second: Parts, message: str) -> None:
    for stream, part in first.items():
        for name in ("vectors", "pooled"):
            gap = distance(getattr(part, name), getattr(second[stream], name))
            if gap > PACKING_TOLERANCE:
                raise ConformanceError(f"{message}: {name} of {stream!r} differ by {gap:.1g}")


def _check_parts(given: Parts, found: Parts, width: int, when: str = "") -> None:
    missing = sorted(set(given) - set(found))
    if missing:
        raise ConformanceError(f"forward returns no vectors for {missing}: return every stream")
    for stream, part in given.items():
        check_encoded(found[stream], part.layout, width, f"{when}forward, stream {stream!r}")


@check("fusion")
def fuses(subject: FusionSubject) -> None:
    """It needs streams and fuses them."""
    if not isinstance(subject.fusion, Fusion):
        raise ConformanceError(f"{type(subject.fusion).__name__} is no Fusion: subclass it")
    if not subject.fusion.needs():
        raise ConformanceError("`needs` names no streams: a config could not be checked")
    subject.fuse(subject.parts())


@check("fusion", after=("fuses",))
def shapes(subject: FusionSubject) -> None:
    """Every stream comes back in its own layout, finite, as wide as the fusion says."""
    parts = subject.parts()
    _check_parts(parts, subject.fuse(parts), subject.fusion.width)


@check("fusion", after=("fuses", "shapes"))
def absent(subject: FusionSubject) -> None:
    """Samples that lack a stream, or all streams, give no NaN."""
    parts = subject.parts(absent=PARTLY)
    _check_parts(parts, subject.fuse(parts), subject.fusion.width, "with absent samples, ")
    for number in range(len(parts)):
        nothing = subject.parts(absent={number: range(len(LENGTHS))})
        _check_parts(nothing, subject.fuse(nothing), subject.fusion.width, "an absent stream, ")


@check("fusion", after=("fuses", "shapes", "absent", "gradients"))
def zero_tokens(subject: FusionSubject) -> None:
    """A batch without tokens, or without samples, goes forward and backward."""
    for lengths, when in (([0, 0], "without tokens"), ([], "without samples")):
        fusion = subject.built().train()
        parts = subject.parts(lengths, dtype=torch.float32)
        found = fusion(parts)
        _check_parts(parts, found, fusion.width, f"{when}, ")
        require_finite_gradients(fusion, scalar(found.values()), when)


@check("fusion", after=("fuses",))
def randomness(subject: FusionSubject) -> None:
    """In evaluation nothing is random, in training everything follows torch's seed."""
    parts = subject.parts()
    with random_state_untouched("in evaluation mode the fusion"):
        first, second = subject.fuse(parts), subject.fuse(parts)
    _require_same(first, second, "in evaluation mode, fusing twice differs")
    found = []
    for other in range(2):
        fusion = copy.deepcopy(subject.fusion).train()
        with random_state_kept(other), torch.no_grad():
            torch.manual_seed(3)
            found.append(fusion(parts))
    _require_same(
        found[0],
        found[1],
        "in training mode, fusing twice with one seed of torch differs: draw from torch's "
        "generator alone, which the run seeds for each step",
    )


@check("fusion", after=("fuses", "shapes", "randomness"))
def sample_leak(subject: FusionSubject) -> None:
    """A sample's vectors do not depend on what the other samples hold."""
    parts = subject.parts()
    whole = subject.fuse(parts)
    others = [0, *range(2, len(LENGTHS))]
    changed = {}
    for stream, part in parts.items():
        factor = torch.where(part.layout.sample == 1, -2.0, 1.0).double()[:, None]
        changed[stream] = Encoded.mean_pooled(part.layout, part.vectors * factor)
    for training in (False, True):
        fusion = copy.deepcopy(subject.fusion).train(training)
        again = copy.deepcopy(fusion)
        with random_state_kept(5), torch.no_grad():
            whole = fusion(parts)
        with random_state_kept(5), torch.no_grad():
            found = again(changed)
        _require_same(
            _take(found, others),
            _take(whole, others),
            "changing one sample changes another's vectors: let attention and norms stay within "
            "a sample",
        )


@check("fusion", after=("fuses", "shapes", "randomness", "sample_leak"))
def batch_order(subject: FusionSubject) -> None:
    """Samples in another order have the same vectors."""
    order = list(reversed(range(len(LENGTHS))))
    parts = subject.parts()
    _require_same(
        subject.fuse(_take(parts, order)),
        _take(subject.fuse(parts), order),
        "vectors depend on the order of the batch's samples",
    )


@check("fusion", after=("fuses", "shapes", "randomness", "sample_leak", "batch_order"))
def packing(subject: FusionSubject) -> None:
    """Fused one by one or together, a sample has the same vectors, to 1e-6."""
    parts = subject.parts()
    whole = subject.fuse(parts)
    for sample in range(len(LENGTHS)):
        _require_same(
            subject.fuse(_take(parts, [sample])),
            _take(whole, [sample]),
            "a sample fused alone differs from the same among others",
        )
    partly = subject.parts(absent=PARTLY)
    _require_same(
        _take(subject.fuse(partly), [1, 4, 5]),
        subject.fuse(_take(partly, [1, 4, 5])),
        "absent samples change the others",
    )


@check("fusion", after=("fuses",))
def gradients(subject: FusionSubject) -> None:
    """Every trainable parameter gets a gradient."""
    fusion = subject.built().train()
    parts = subject.parts(dtype=torch.float32)
    with random_state_kept(1):
        require_gradients(fusion, [lambda: scalar(fusion(parts).values())] * 2)


@check("fusion", after=("fuses", "randomness"))
def saved_state(subject: FusionSubject) -> None:
    """After some training, its `state_dict` brings a fresh fusion to the same vectors."""
    fusion = subject.built().train()
    parts = subject.parts(dtype=torch.float32)
    for seed in range(3):
        with random_state_kept(seed):
            descend(fusion, scalar(fusion(parts).values()))
    fresh = subject.built(seed=1)
    through_a_file(fusion, fresh)
    with torch.no_grad():
        _require_same(
            fresh.eval()(parts),
            fusion.eval()(parts),
            "a fresh fusion with the saved state gives other vectors: keep what changes in "
            "training in parameters or persistent buffers",
        )


@check("fusion", after=("fuses", "shapes", "randomness"))
def half_precision(subject: FusionSubject) -> None:
    """Under autocast to bfloat16 and float16, vectors are finite and near float32."""
    parts = subject.parts(dtype=torch.float32)
    fusion = subject.built().eval()
    with torch.no_grad():
        wanted = fusion(parts)
        for dtype in HALVES:
            with torch.autocast("cpu", dtype):
                found = fusion(parts)
            for stream in parts:
                rows, exact = found[stream].vectors.float(), wanted[stream].vectors
                error = float((rows - exact).norm() / exact.norm().clamp(min=1e-6))
                if not error < 0.1:
                    raise ConformanceError(
                        f"in {dtype}, vectors of {stream!r} are off by {error:.0%} of their "
                        "length: keep norms and sums in float32"
                    )
