"""Example: a small case of a component, for the conformance kit. Imports no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Example:
    """Options and inputs with which to check one component.

    Everything but the component and its kind may be left out where the component has no required
    options and the kit can make up inputs: it can for objectives, fusions, evaluations, methods
    and trackers, and for encoders that take any tokens. Tokenizers and readers need inputs.

    An objective or fusion can name the kit's own streams in its options: `patches` (values, two
    axes), `clips` (values, three axes), `words` (ids with a mask, a begin and an end; words),
    `cut_words` (sentinels, too), `graphs` (values and edges), `causal_patches`, `causal_clips` and
    `causal_words`, whose encoders are causal, and `merged_words`, whose encoder merges tokens. Of
    fields it reads, `number` holds a number, `map` an array [token, 1], any other the name of a
    class. An evaluation can name these streams, any source, and the fields `label` (a class),
    `name` (the same as text), `number` and `group`.
    """

    component: str  # "vision.patches"
    kind: str  # "tokenizer"
    options: Mapping[str, Any] = field(default_factory=dict)  # "{folder}" in a text: see `prepare`
    raws: Sequence[Any] = ()  # what readers return: for a tokenizer (an encoder's), for views
    values: Sequence[Any] = ()  # of a reader: what records hold
    tokenizer: Mapping[str, Any] | None = None  # of an encoder: {"use": "vision.patches", ...}
    modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # modules: of an objective: what it shares, {"decoder": {"use": "generation.decoder", ...}}; toy
    # fusions unless given
    prepare: Callable[[Path], None] | None = None  # writes what options refer to as {folder}/...
    skip: Mapping[str, str] = field(default_factory=dict)  # check: why it does not apply
