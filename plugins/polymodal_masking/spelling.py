"""Today's spelling of options from before they were parts, and of short names. Needs no torch."""

from collections.abc import Mapping
from typing import Any

from polymodal import nearest

Options = Mapping[str, Any]
_SHAPES = {"random": "hiding.tokens", "block": "hiding.blocks", "tube": "hiding.tubes"}
_UNITS = {
    "token": "hiding.tokens",
    "word": "hiding.words",
    "span": "hiding.spans",
    "concept": "hiding.concept",
}
_HEADS = {"tied": "heads.tied", "own": "heads.own"}
# Old options of `masking.tokens` that say what is hidden: by unit, with today's names.
_SHARE = {"ratio": "ratio", "at_least": "at_least"}
_OF_UNIT = {
    "token": _SHARE,
    "word": _SHARE,
    "span": {**_SHARE, "span_stop": "stop", "longest_span": "longest"},
    "concept": {name: name for name in ("ratio", "labels", "concept", "amount", "cover")},
}
_HIDE = ("units", "ratio", "at_least", "span_stop", "longest_span", "labels", "concept", "amount",
         "cover")  # fmt: skip


def _taken(options: Options, part: str, names: tuple[str, ...]) -> tuple[Options, dict[str, Any]]:
    """Return the old options with these names that are set, which the part has today; the others.

    Raises:
        ValueError: the part is given, too.
    """
    taken = {name: options[name] for name in names if options.get(name) is not None}
    if taken and options.get(part) is not None:
        raise ValueError(
            f"{next(iter(taken))} is today an option of the part {part!r}: put it there"
        )
    return taken, {name: value for name, value in options.items() if name not in names}


def _one_of(option: str, value: Any, known: Mapping[str, str]) -> str:
    """Return what a word of an old option is called today."""
    if not isinstance(value, str) or value not in known:
        words = f"{', '.join(list(known)[:-1])} or {list(known)[-1]}"
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{option} must be {words}, got {value!r}.{hint}")
    return known[value]


def _placed(options: Options, *, ratio: float, rounding: str = "nearest") -> dict[str, Any]:
    """Turn ratio, shape and rounding into what is hidden; it is there afterwards, if by default."""
    taken, rest = _taken(options, "hide", ("ratio", "shape", "rounding"))
    if rest.get("hide") is not None:
        return rest
    use = _one_of("shape", taken.get("shape", "random"), _SHAPES)
    own = {name: value for name, value in taken.items() if name != "shape"}
    return {**rest, "hide": {"use": use, "ratio": ratio, "rounding": rounding, **own}}


def _hidden(options: Options) -> dict[str, Any]:
    """Turn the old options of `masking.tokens` that say what is hidden into a part."""
    taken, rest = _taken(options, "hide", _HIDE)
    if not taken:
        return rest
    unit = taken.get("units", "token")
    use = _one_of("units", unit, _UNITS)
    if taken.get("cover") and unit != "concept":
        raise ValueError("cover needs units concept")
    told = bool(taken.get("labels")) and bool(taken.get("concept"))
    if told != (unit == "concept"):
        raise ValueError("units concept, labels and concept go together: name all or none")
    # What goes with another unit had no effect, and has none.
    own = {new: taken[old] for old, new in _OF_UNIT[unit].items() if old in taken}
    return {**rest, "hide": {"use": use, **own}}


def tokens(options: Options) -> dict[str, Any]:
    """Spell `masking.tokens`.

    Raises:
        ValueError: old options that are wrong, or given beside the part that has them today.
    """
    found = _hidden(options)
    replace = found.get("replace")
    if replace is None or isinstance(replace, int | float):  # once a share: of the mask id
        random = found.pop("random", None)
        if replace is not None or random is not None:
            shares = {"mask": replace, "random": random}
            given = {name: share for name, share in shares.items() if share is not None}
            found["replace"] = {"use": "replacing.bert", **given}
    elif "random" in found:
        raise ValueError("random is today an option of the part 'replace': put it there")
    head = found.get("head")
    if isinstance(head, str) and "." not in head:
        found["head"] = {"use": _one_of("head", head, _HEADS)}
    return {**found, "use": "masking.tokens"}


def _named(options: Options, defaults: Options) -> dict[str, Any]:
    """Return options of a short name: `masking.tokens` with these parts where none are given."""
    given = {name: value for name, value in options.items() if value is not None}
    return {"use": "masking.tokens", **defaults, **given}


def simmim(options: Options) -> dict[str, Any]:
    """Spell `masking.simmim`: `masking.tokens` with a linear head that predicts values.

    Raises:
        ValueError: old options that are wrong, or given beside the part that has them today.
    """
    taken, rest = _taken(_placed(options, ratio=0.6), "targets", ("distance", "normalize_targets"))
    named = {"normalize_targets": "normalize"}
    targets = {named.get(name, name): value for name, value in taken.items()}
    return _named(rest, {
        "noise": "masking.simmim",
        "replace": {"use": "replacing.learned"},
        "targets": {"use": "targets.values", **targets},
        "head": {"use": "heads.linear"},
    })  # fmt: skip


def codes(options: Options) -> dict[str, Any]:
    """Spell `masking.codes`: `masking.tokens` that predicts entries of a codebook.

    Raises:
        ValueError: old options that are wrong, or given beside the part that has them today.
    """
    taken, rest = _taken(_placed(options, ratio=0.4), "targets", ("codes", "codebook", "normalize"))
    return _named(rest, {
        "noise": "masking.codes",
        "replace": {"use": "replacing.learned"},
        "targets": {"use": "targets.kmeans", **taken},
        "head": {"use": "heads.linear"},
    })  # fmt: skip


def kind(options: Options) -> dict[str, Any]:
    """Spell `masking.kind`: `masking.tokens` that hides all tokens of a kind.

    Raises:
        ValueError: a kind beside what is hidden.
    """
    taken, rest = _taken(options, "hide", ("kind",))
    return _named(rest, {
        "hide": {"use": "hiding.kind", "kind": "tag", **taken},
        "replace": {"use": "replacing.bert", "mask": 1.0, "random": 0.0},
        "head": {"use": "heads.table"},
    })  # fmt: skip


def detection(options: Options) -> dict[str, Any]:
    """Spell `masking.detection`: `masking.tokens` that tells which ids were replaced."""
    return _named(options, {
        "replace": {"use": "replacing.bert", "mask": 0.0, "random": 1.0},
        "targets": {"use": "targets.replaced"},
        "head": {"use": "heads.linear"},
    })  # fmt: skip


def mae(options: Options) -> dict[str, Any]:
    """Spell `masking.mae`.

    Raises:
        ValueError: an unknown shape, or old options beside the part that has them today.
    """
    return _placed(options, ratio=0.75)


def cross_view(options: Options) -> dict[str, Any]:
    """Spell `masking.cross_view`.

    Raises:
        ValueError: an unknown shape, or old options beside the part that has them today.
    """
    return _placed(options, ratio=0.9, rounding="down")
