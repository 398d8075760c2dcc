"""Checks of tokenizers."""

import copy
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from polymodal.ground.errors import UnreadableError
from polymodal.interfaces.tokenizer import Tokenizer
from polymodal.packed.tokens import Tokens
from polymodal.testing.comparing import (
    random_state_kept,
    random_state_untouched,
    same,
    tokens_difference,
)
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.specs import require_edges, require_rows, require_structure


@dataclass
class TokenizerSubject:
    """A tokenizer under examination.

    Args:
        make: builds it, not yet fitted.
        raws: two or more raw values, as its reader returns them.
    """

    make: Callable[[], Tokenizer]
    raws: Sequence[Any]
    _fitted: dict[str, Tokenizer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.raws:
            raise ConformanceError(
                "a tokenizer needs raw values to be checked with: give `raws`, or an Example in "
                "the plugin's polymodal_examples"
            )
        if len(self.raws) == 1:
            self.raws = [self.raws[0]] * 2

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, fitted on the raw values."""
        tokenizer = self.make()
        if not tokenizer.fitted:
            tokenizer.fit(iter(self.raws))
        return tokenizer

    def encode(
        self,
        raws: Sequence[Any],
        *,
        seed: int | None = None,
        first: int = 0,
        tokenizer: Tokenizer | None = None,
    ) -> Tokens:
        """Return finished tokens of copies; with a seed, augmented.

        The generators are those of the places from `first` on.
        """
        tokenizer = tokenizer or self.tokenizer
        generators = None
        if seed is not None:
            generators = [np.random.default_rng([seed, first + n]) for n in range(len(raws))]
        return tokenizer.finish(tokenizer.encode(copy.deepcopy(raws), generators=generators))

    @property
    def modes(self) -> tuple[int | None, ...]:
        """Without augmentation and with."""
        return (None, 7)


def _mode(seed: int | None) -> str:
    return "" if seed is None else " with generators"


@check("tokenizer")
def encodes(subject: TokenizerSubject) -> None:
    """It fits, accepts its own examples and encodes them."""
    tokenizer = subject.tokenizer
    if not isinstance(tokenizer, Tokenizer):
        raise ConformanceError(f"{type(tokenizer).__name__} is no Tokenizer: subclass it")
    if not tokenizer.fitted:
        raise ConformanceError("`fitted` is still False after `fit`")
    for raw in subject.raws:
        tokenizer.check(raw)
    for seed in subject.modes:
        if not isinstance(subject.encode(subject.raws, seed=seed), Tokens):
            raise ConformanceError(f"`encode`{_mode(seed)} must return Tokens")


@check("tokenizer", after=("encodes",))
def shapes(subject: TokenizerSubject) -> None:
    """One segment a raw value; offsets, positions, channels and edges fit the layout."""
    for seed in subject.modes:
        layout = subject.encode(subject.raws, seed=seed).layout
        try:
            layout.validate()
        except ValueError as error:
            raise ConformanceError(f"the layout `encode`{_mode(seed)} makes: {error}") from error
        if layout.segments != len(subject.raws) or layout.samples != len(subject.raws):
            raise ConformanceError(
                f"`encode`{_mode(seed)} makes {layout.segments} segments for {len(subject.raws)} "
                "raw values: return one a raw value, of length zero where nothing is left"
            )
        if layout.owner is not None:
            raise ConformanceError("`encode` must leave `owner` to the loader")


@check("tokenizer", after=("encodes", "shapes"))
def spec(subject: TokenizerSubject) -> None:
    """The tokens are what `spec` says: ids, features, positions, kinds, channels, edges, length."""
    spec = subject.make().spec
    if subject.tokenizer.spec != spec:
        raise ConformanceError(
            "`spec` is another after `fit`: encoders are built by it before any data is read"
        )
    for role, number in spec.special.items():
        if not 0 <= number < spec.vocabulary:
            raise ConformanceError(
                f"special {role!r} is {number}, outside the vocabulary of {spec.vocabulary}"
            )
    for seed in subject.modes:
        tokens = subject.encode(subject.raws, seed=seed)
        require_rows(tokens, spec)
        require_structure(tokens, spec)
        require_edges(tokens, spec)
        if spec.max_tokens is not None and tokens.layout.longest > spec.max_tokens:
            raise ConformanceError(
                f"a segment has {tokens.layout.longest} tokens, but the spec says at most "
                f"{spec.max_tokens}"
            )


@check("tokenizer", after=("encodes", "shapes", "spec"))
def absent(subject: TokenizerSubject) -> None:
    """None has no tokens and changes nothing else; a batch may be all None, or empty."""
    raws: list[Any] = [None, *subject.raws, None]
    for seed in subject.modes:
        for batch in ([None, None], []):
            tokens = subject.encode(batch, seed=seed)
            tokens.layout.validate()
            if tokens.layout.lengths != (0,) * len(batch) or tokens.layout.tokens:
                raise ConformanceError(
                    f"{len(batch)} absent values must make as many segments of length zero, got "
                    f"lengths {tokens.layout.lengths}"
                )
            require_rows(tokens, subject.tokenizer.spec)
            require_structure(tokens, subject.tokenizer.spec)
    tokens = subject.encode(raws)
    if tokens.layout.lengths[0] or tokens.layout.lengths[-1]:
        raise ConformanceError("None must make a segment of length zero")


def empty_of(raw: Any) -> Any:
    """Return the empty value of a raw value's type, or None where there is no saying."""
    if isinstance(raw, np.ndarray):
        return raw[:0]
    return type(raw)() if isinstance(raw, str | bytes | list | dict) else None


@check("tokenizer", after=("encodes", "shapes", "spec"))
def empty(subject: TokenizerSubject) -> None:
    """An empty text, list or array is refused by `check`, or makes a legal segment."""
    raw = empty_of(subject.raws[0])
    if raw is None:
        return
    try:
        subject.tokenizer.check(raw)
    except UnreadableError:
        return
    for seed in subject.modes:
        try:
            tokens = subject.encode([subject.raws[0], raw], seed=seed)
        except Exception as error:
            raise ConformanceError(
                f"`check` accepts an empty {type(raw).__name__}, but `encode` raises "
                f"{type(error).__name__}: {error}. Refuse it in `check` with UnreadableError"
            ) from error
        tokens.layout.validate()
        require_rows(tokens, subject.tokenizer.spec)
        require_structure(tokens, subject.tokenizer.spec)


@check("tokenizer", after=("encodes",))
def global_state(subject: TokenizerSubject) -> None:
    """Global random state is neither drawn from nor set."""
    with random_state_untouched("the tokenizer"):
        tokenizer = subject.make()
        if not tokenizer.fitted:
            tokenizer.fit(iter(subject.raws))
        for seed in subject.modes:
            subject.encode(subject.raws, seed=seed, tokenizer=tokenizer)


@check("tokenizer", after=("encodes", "shapes", "global_state"))
def generators(subject: TokenizerSubject) -> None:
    """Equal generators give equal tokens, and no generators the same tokens each time."""
    for seed in subject.modes:
        with random_state_kept(1):
            first = subject.encode(subject.raws, seed=seed)
        with random_state_kept(2):
            second = subject.encode(subject.raws, seed=seed)
        found = tokens_difference(first, second)
        if found:
            given = "without generators" if seed is None else "with equal generators"
            raise ConformanceError(
                f"encoding twice {given} gives other {found}: draw from the generator of each raw "
                "value alone"
            )


@check("tokenizer", after=("encodes", "shapes", "generators"))
def augmentation(subject: TokenizerSubject) -> None:
    """Where generators change the tokens, they were drawn from."""
    drawing = [np.random.default_rng(number) for number in range(len(subject.raws))]
    before = [generator.bit_generator.state for generator in drawing]
    tokenizer = subject.tokenizer
    found = tokenizer.finish(
        tokenizer.encode(copy.deepcopy(list(subject.raws)), generators=drawing)
    )
    other = tokens_difference(found, subject.encode(subject.raws))
    if other and all(
        same(generator.bit_generator.state, state)
        for generator, state in zip(drawing, before, strict=True)
    ):
        raise ConformanceError(
            f"with generators the tokens have other {other} than without, but no generator was "
            "drawn from, so every epoch is augmented alike: draw from the generator of each raw "
            "value"
        )


@check("tokenizer", after=("encodes", "shapes", "absent", "generators"))
def packing(subject: TokenizerSubject) -> None:
    """Encoded alone, in other company or among absent ones, a raw value makes the same tokens."""
    count = len(subject.raws)
    among = subject.encode([None, *subject.raws, None]).select(range(1, count + 1))
    found = tokens_difference(among, subject.encode(subject.raws))
    if found:
        raise ConformanceError(f"absent values among the others change the others' {found}")
    for seed in subject.modes:
        together = subject.encode(subject.raws, seed=seed)
        for place in reversed(range(count)):
            alone = subject.encode([subject.raws[place]], seed=seed, first=place)
            found = tokens_difference(alone, together.select([place]))
            if found:
                raise ConformanceError(
                    f"a raw value encoded alone{_mode(seed)} has other {found} than among others"
                )


@check("tokenizer", after=("encodes", "shapes", "generators"))
def saving(subject: TokenizerSubject) -> None:
    """`state`, through JSON and into a fresh tokenizer, brings everything learned back."""
    try:
        text = json.dumps(dict(subject.tokenizer.state()), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"`state` must return JSON values: {error}") from error
    fresh = subject.make()
    fresh.load_state(json.loads(text))
    if not fresh.fitted:
        raise ConformanceError("`fitted` is False after `load_state`")
    if fresh.spec != subject.tokenizer.spec:
        raise ConformanceError("`spec` is another after its state is saved and loaded")
    _agree(subject, fresh, "after its state is saved and loaded")


@check("tokenizer", after=("encodes", "shapes", "generators"))
def pickling(subject: TokenizerSubject) -> None:
    """It can be sent to a data worker."""
    try:
        sent = pickle.loads(pickle.dumps(subject.tokenizer))
    except Exception as error:
        raise ConformanceError(
            f"it can't be pickled, so no data worker can have it: {type(error).__name__}: {error}"
        ) from error
    _agree(subject, sent, "after it is pickled")


def _agree(subject: TokenizerSubject, other: Tokenizer, when: str) -> None:
    for seed in subject.modes:
        found = tokens_difference(
            subject.encode(subject.raws, seed=seed),
            subject.encode(subject.raws, seed=seed, tokenizer=other),
        )
        if found:
            raise ConformanceError(f"it makes other {found} {when}: put what it learned in `state`")


@check("tokenizer", after=("encodes", "shapes", "absent"))
def counts(subject: TokenizerSubject) -> None:
    """`count` tells the number of tokens there are without augmentation, once finished."""
    raws = [*subject.raws, None]
    told = list(subject.tokenizer.count(raws))
    made = list(subject.encode(raws).layout.lengths)
    if told != made:
        raise ConformanceError(f"`count` says {told} tokens, `encode` makes {made}")


@check("tokenizer", after=("encodes", "shapes"))
def leaves_raws_alone(subject: TokenizerSubject) -> None:
    """Raw values are not changed: several streams and views may share one."""
    raws = copy.deepcopy(list(subject.raws))
    for raw in raws:
        subject.tokenizer.check(raw)
    subject.tokenizer.encode(raws)
    subject.tokenizer.encode(raws, generators=[np.random.default_rng(n) for n in range(len(raws))])
    if not same(raws, list(subject.raws)):
        raise ConformanceError("`encode` changes the raw values it is given: work on a copy")


@check("tokenizer", after=("encodes", "shapes", "generators", "leaves_raws_alone"))
def shrinking(subject: TokenizerSubject) -> None:
    """What `shrink` leaves of raw values encodes to the same tokens."""
    tokenizer = subject.tokenizer
    for seed in subject.modes:
        raws = copy.deepcopy(list(subject.raws))
        drawing: list[np.random.Generator] | None = None
        if seed is not None:
            drawing = [np.random.default_rng([seed, n]) for n in range(len(raws))]
        draws = [None] * len(raws) if drawing is None else drawing
        small = [
            tokenizer.shrink(raw, generator=draw) for raw, draw in zip(raws, draws, strict=True)
        ]
        found = tokens_difference(
            tokenizer.finish(tokenizer.encode(small, generators=drawing)),
            subject.encode(subject.raws, seed=seed),
        )
        if found:
            raise ConformanceError(
                f"`encode`{_mode(seed)} makes other {found} of what `shrink` returns than of the "
                "raw value: draw once, in the same order, and cut once"
            )
        if not same(raws, list(subject.raws)):
            raise ConformanceError("`shrink` changes the raw values it is given: work on a copy")


@check("tokenizer", after=("encodes", "shapes", "absent"))
def decoding(subject: TokenizerSubject) -> None:
    """`decode` returns one value a segment, or raises NotImplementedError."""
    try:
        found = subject.tokenizer.decode(subject.encode([*subject.raws, None]))
    except NotImplementedError:
        return
    if len(found) != len(subject.raws) + 1:
        raise ConformanceError(
            f"`decode` returns {len(found)} values for {len(subject.raws) + 1} segments"
        )
