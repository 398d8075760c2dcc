"""Checks of encoders."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from polymodal.interfaces.encoder import Encoder
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Encoded, Tokens
from polymodal.testing.comparing import (
    PACKING_TOLERANCE,
    distance,
    random_state_kept,
    random_state_untouched,
)
from polymodal.testing.modules import (
    HALVES,
    changed,
    check_encoded,
    descend,
    require_finite_gradients,
    require_gradients,
    rows_of,
    scalar,
    through_a_file,
    wide,
)
from polymodal.testing.registry import ConformanceError, check


@dataclass
class EncoderSubject:
    """An encoder under examination.

    Args:
        make: builds it for a spec.
        spec: of its tokens.
        tokens: a batch of two or more samples.
    """

    make: Callable[[TokenSpec], Encoder]
    spec: TokenSpec
    tokens: Tokens

    def built(self, seed: int = 0) -> Encoder:
        """Return a fresh encoder, its weights drawn with this seed."""
        with random_state_kept(seed):
            return self.make(self.spec)

    @cached_property
    def encoder(self) -> Encoder:
        """An encoder in evaluation mode."""
        return self.built().eval()

    @cached_property
    def exact(self) -> Encoder:
        """The same in float64, so that only real differences show."""
        return copy.deepcopy(self.encoder).double()

    @cached_property
    def wide(self) -> Tokens:
        """The tokens in float64."""
        return wide(self.tokens)

    def encode(self, tokens: Tokens) -> Encoded:
        """Return the exact encoder's vectors, without gradients."""
        with torch.no_grad():
            return self.exact(tokens)

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self.tokens.layout.samples

    def emptied(self, tokens: Tokens) -> Tokens:
        """Return the tokens with an absent sample at the start and the end."""
        nothing = tokens.take([0]).keep(torch.zeros(0, dtype=torch.int64), [0])
        return Tokens.stack([nothing, tokens, nothing])


def _require_same(first: Encoded, second: Encoded, message: str) -> None:
    for name in ("vectors", "pooled"):
        gap = distance(getattr(first, name), getattr(second, name))
        if gap > PACKING_TOLERANCE:
            raise ConformanceError(f"{message}: {name} differ by {gap:.1g}")


@check("encoder")
def encodes(subject: EncoderSubject) -> None:
    """It encodes its tokens."""
    encoder = subject.encoder
    if not isinstance(encoder, Encoder):
        raise ConformanceError(f"{type(encoder).__name__} is no Encoder: subclass it")
    encoder(subject.tokens)
    subject.built().train()(subject.tokens)


@check("encoder", after=("encodes",))
def shapes(subject: EncoderSubject) -> None:
    """A finite vector a token and one a segment, as wide as it says."""
    with torch.no_grad():
        found = subject.encoder(subject.tokens)
    check_encoded(found, subject.tokens.layout, subject.encoder.width, "forward")


@check("encoder", after=("encodes", "randomness"))
def stem_and_trunk(subject: EncoderSubject) -> None:
    """`forward` is `contextualize` after `embed`."""
    encoder = subject.encoder
    with torch.no_grad():
        apart = encoder.contextualize(encoder.embed(subject.tokens))
        _require_same(encoder(subject.tokens), apart, "forward is not contextualize after embed")


@check("encoder", after=("encodes", "shapes"))
def absent(subject: EncoderSubject) -> None:
    """Samples without tokens among others get a pooled zero, and nothing is NaN."""
    tokens = subject.emptied(subject.wide)
    width = subject.encoder.width
    check_encoded(subject.encode(tokens), tokens.layout, width, "with absent samples, forward")


@check("encoder", after=("encodes", "shapes", "packing"))
def owners(subject: EncoderSubject) -> None:
    """A sample may own several segments, or none: each is encoded as if it stood alone."""
    tokens = subject.wide
    layout = tokens.layout
    owner = torch.arange(layout.segments) // 2 + 1  # sample 0 owns none
    owned = tokens.with_rows(
        tokens.rows, replace(layout, owner=owner, samples=layout.segments // 2 + 2)
    )
    when = "with several segments a sample, forward"
    found = check_encoded(subject.encode(owned), owned.layout, subject.encoder.width, when)
    _require_same(found, subject.encode(tokens), "who owns a segment changes its vectors")


@check("encoder", after=("encodes", "shapes", "absent", "gradients"))
def zero_tokens(subject: EncoderSubject) -> None:
    """A batch without tokens, or without samples, goes forward and backward."""
    all_absent = subject.tokens.keep(torch.zeros(0, dtype=torch.int64), [0] * subject.samples)
    for tokens, when in ((all_absent, "without tokens"), (all_absent.take([]), "without samples")):
        encoder = subject.built().train()
        found = check_encoded(encoder(tokens), tokens.layout, encoder.width, f"{when}, forward")
        require_finite_gradients(encoder, scalar([found]), when)


@check("encoder", after=("encodes",))
def randomness(subject: EncoderSubject) -> None:
    """In evaluation nothing is random, in training everything follows torch's seed."""
    with random_state_untouched("in evaluation mode the encoder"), torch.no_grad():
        first, second = (subject.encoder(subject.tokens) for _ in range(2))
    _require_same(first, second, "in evaluation mode, encoding twice differs")
    encoder = subject.built().train()
    found = []
    for other in range(2):
        fresh = copy.deepcopy(encoder)
        with random_state_kept(other), torch.no_grad():
            torch.manual_seed(3)
            found.append(fresh(subject.tokens))
    _require_same(
        found[0],
        found[1],
        "in training mode, encoding twice with one seed of torch differs: draw from torch's "
        "generator alone, which the run seeds for each step",
    )


@check("encoder", after=("encodes", "shapes", "randomness"))
def sample_leak(subject: EncoderSubject) -> None:
    """A sample's vectors do not depend on what the other samples hold, in either mode."""
    tokens = subject.wide
    whole = subject.encode(tokens)
    training = copy.deepcopy(subject.exact).train()
    with random_state_kept(5), torch.no_grad():
        trained = training(tokens)
    for sample in (0, subject.samples - 1):
        others = [s for s in range(subject.samples) if s != sample]
        other = changed(tokens, rows_of(tokens, sample), subject.spec)
        _require_same(
            subject.encode(other).select(others),
            whole.select(others),
            "changing one sample changes another's vectors: let attention, norms and pooling stay "
            "within a segment",
        )
        training = copy.deepcopy(subject.exact).train()
        with random_state_kept(5), torch.no_grad():
            found = training(other)
        _require_same(
            found.select(others),
            trained.select(others),
            "in training, changing one sample changes another's vectors (batch norm does that)",
        )


@check("encoder", after=("encodes", "shapes", "randomness", "sample_leak"))
def batch_order(subject: EncoderSubject) -> None:
    """Samples in another order have the same vectors."""
    order = list(reversed(range(subject.samples)))
    _require_same(
        subject.encode(subject.wide.take(order)),
        subject.encode(subject.wide).take(order),
        "vectors depend on the order of the batch's samples",
    )


@check("encoder", after=("encodes", "shapes", "randomness", "sample_leak", "batch_order"))
def packing(subject: EncoderSubject) -> None:
    """Encoded one by one or together, a sample has the same vectors, to 1e-6."""
    whole = subject.encode(subject.wide)
    for sample in range(subject.samples):
        _require_same(
            subject.encode(subject.wide.take([sample])),
            whole.take([sample]),
            "a sample encoded alone differs from the same among others",
        )
    _require_same(
        subject.encode(subject.emptied(subject.wide)).select(range(1, subject.samples + 1)),
        whole,
        "absent samples change the others",
    )


@check("encoder", after=("encodes", "shapes", "randomness"))
def causality(subject: EncoderSubject) -> None:
    """If it says `causal`, no token sees a later one."""
    if not subject.encoder.causal:
        return
    tokens = subject.wide
    layout = tokens.layout
    late = layout.within >= (layout.offsets.diff() // 2)[layout.segment]
    other = changed(tokens, late.nonzero()[:, 0], subject.spec)
    gap = distance(subject.encode(other).vectors[~late], subject.encode(tokens).vectors[~late])
    if gap > PACKING_TOLERANCE:
        raise ConformanceError(
            f"it says it is causal, but changing later tokens changes earlier vectors by {gap:.1g}"
        )


@check("encoder", after=("encodes",))
def gradients(subject: EncoderSubject) -> None:
    """Every trainable parameter gets a gradient."""
    encoder = subject.built().train()

    def one(seed: int) -> Tensor:
        with random_state_kept(seed):
            return scalar([encoder(subject.tokens)])

    require_gradients(encoder, [lambda: one(1), lambda: one(2)])


@check("encoder", after=("encodes", "randomness"))
def saved_state(subject: EncoderSubject) -> None:
    """After some training, its `state_dict` brings a fresh encoder to the same vectors."""
    encoder = subject.built().train()
    for seed in range(3):
        with random_state_kept(seed):
            descend(encoder, scalar([encoder(subject.tokens)]))
    fresh = subject.built(seed=1)
    through_a_file(encoder, fresh)
    with torch.no_grad():
        _require_same(
            fresh.eval()(subject.tokens),
            encoder.eval()(subject.tokens),
            "a fresh encoder with the saved state gives other vectors: keep what changes in "
            "training in parameters or persistent buffers",
        )


@check("encoder", after=("encodes", "shapes", "randomness"))
def half_precision(subject: EncoderSubject) -> None:
    """Under autocast to bfloat16 and float16, vectors and gradients are finite and near float32."""
    full = subject.encoder
    with torch.no_grad():
        wanted = full(subject.tokens)
    for dtype in HALVES:
        encoder = copy.deepcopy(full)
        with torch.autocast("cpu", dtype):
            found = encoder(subject.tokens)
        for name in ("vectors", "pooled"):
            rows, exact = getattr(found, name).detach().float(), getattr(wanted, name)
            if not bool(rows.isfinite().all()):
                raise ConformanceError(f"in {dtype}, {name} overflow: work that out in float32")
            error = float((rows - exact).norm() / exact.norm().clamp(min=1e-6))
            if error > 0.1:
                raise ConformanceError(
                    f"in {dtype}, {name} are off by {error:.0%} of their length: keep norms, "
                    "positions and sums in float32"
                )
        # A loss of usual size: its gradient a vector is small.
        (scalar([found]).float() / max(subject.tokens.layout.tokens, 1)).backward()
        for name, parameter in encoder.named_parameters():
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                raise ConformanceError(f"in {dtype}, the gradient of {name} overflows")


@check("encoder", after=("encodes",))
def parts(subject: EncoderSubject) -> None:
    """`layers` are its own modules; `unembed` scores the vocabulary, gives values, or is None."""
    encoder = subject.encoder
    own = {id(parameter) for parameter in encoder.parameters()}
    layers = [[id(p) for p in layer.parameters()] for layer in encoder.layers()]
    held = [number for layer in layers for number in layer]
    if not layers or not own.issuperset(held) or len(set(held)) < len(held):
        raise ConformanceError(
            "`layers` must return the encoder's own modules, stem first, none within another"
        )
    with torch.no_grad():
        scores = encoder.unembed(torch.zeros(3, encoder.width))
    size = subject.spec.vocabulary or subject.spec.features
    if scores is not None and scores.shape != (3, size):
        what = "a vocabulary" if subject.spec.vocabulary else "values"
        raise ConformanceError(
            f"`unembed` returns shape {list(scores.shape)} for 3 vectors and {what} of {size}"
        )
