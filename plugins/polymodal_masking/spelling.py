"""Today's spelling of options from before they were parts, and of short names. Needs no torch."""

from collections.abc import Mapping
from typing import Any

Options = Mapping[str, Any]
_SHAPES = {"random": "hiding.tokens", "block": "hiding.blocks", "tube": "hiding.tubes"}


def _parted(options: Options, *names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options with these names that are set, and the others."""
    taken = {name: options[name] for name in names if options.get(name) is not None}
    return taken, {name: value for name, value in options.items() if name not in names}


def _placed(options: Options, *, ratio: float, rounding: str = "nearest") -> dict[str, Any]:
    """Turn ratio, shape and rounding into what is hidden."""
    if not {"ratio", "shape", "rounding"} & set(options):
        return dict(options)
    taken, rest = _parted(options, "ratio", "shape", "rounding")
    use = _SHAPES.get(taken.pop("shape", "random"))
    if use is None or "hide" in rest:
        return dict(options)  # the checks say what is wrong
    return {"hide": {"use": use, "ratio": ratio, "rounding": rounding, **taken}, **rest}


def tokens(options: Options) -> dict[str, Any]:
    """Spell `masking.tokens`."""
    found = dict(options)
    chosen, rest = _parted(
        found, "ratio", "units", "span_stop", "longest_span", "at_least",
        "labels", "concept", "amount", "cover",
    )  # fmt: skip
    if chosen and "hide" not in found:
        units = chosen.pop("units", "token")
        named = {"span_stop": "stop", "longest_span": "longest"}
        kept = {
            "token": ("ratio", "at_least"),
            "word": ("ratio", "at_least"),
            "span": ("ratio", "at_least", "span_stop", "longest_span"),
            "concept": ("ratio", "labels", "concept", "amount", "cover"),
        }.get(units)
        if kept is None:
            return {**found, "use": "masking.tokens"}
        use = {"word": "hiding.words", "span": "hiding.spans", "concept": "hiding.concept"}
        hide = {named.get(name, name): value for name, value in chosen.items() if name in kept}
        found = {**rest, "hide": {"use": use.get(units, "hiding.tokens"), **hide}}
        # What went with other units only is refused as before: by its name.
        found |= {name: value for name, value in chosen.items() if name not in kept and value}
    if isinstance(found.get("replace"), int | float) or "random" in found:
        replaced, rest = _parted(found, "replace", "random")
        shares = {"mask": replaced.get("replace", 0.8), "random": replaced.get("random", 0.1)}
        found = {**rest, "replace": {"use": "replacing.bert", **shares}}
    if found.get("head") in ("tied", "own"):
        found["head"] = {"use": f"heads.{found['head']}"}
    return {**found, "use": "masking.tokens"}


def simmim(options: Options) -> dict[str, Any]:
    """Spell `masking.simmim`: `masking.tokens` with a linear head that predicts values."""
    taken, rest = _parted(_placed(options, ratio=0.6), "distance", "normalize_targets")
    named = {"normalize_targets": "normalize"}
    targets = {named.get(name, name): value for name, value in taken.items()}
    return {
        "use": "masking.tokens",
        "hide": {"use": "hiding.tokens", "ratio": 0.6},
        "replace": {"use": "replacing.learned"},
        "targets": {"use": "targets.values", **targets},
        "head": {"use": "heads.linear"},
        **rest,
    }


def codes(options: Options) -> dict[str, Any]:
    """Spell `masking.codes`: `masking.tokens` that predicts entries of a codebook."""
    taken, rest = _parted(_placed(options, ratio=0.4), "codes", "codebook", "normalize")
    return {
        "use": "masking.tokens",
        "hide": {"use": "hiding.tokens", "ratio": 0.4},
        "replace": {"use": "replacing.learned"},
        "targets": {"use": "targets.kmeans", **taken},
        "head": {"use": "heads.linear"},
        **rest,
    }


def kind(options: Options) -> dict[str, Any]:
    """Spell `masking.kind`: `masking.tokens` that hides all tokens of a kind."""
    taken, rest = _parted(options, "kind")
    return {
        "use": "masking.tokens",
        "hide": {"use": "hiding.kind", "kind": "tag", **taken},
        "replace": {"use": "replacing.bert", "mask": 1.0, "random": 0.0},
        "head": {"use": "heads.table"},
        **rest,
    }


def detection(options: Options) -> dict[str, Any]:
    """Spell `masking.detection`: `masking.tokens` that tells which ids were replaced."""
    return {
        "use": "masking.tokens",
        "replace": {"use": "replacing.bert", "mask": 0.0, "random": 1.0},
        "targets": {"use": "targets.replaced"},
        "head": {"use": "heads.linear"},
        **options,
    }


def mae(options: Options) -> dict[str, Any]:
    """Spell `masking.mae`."""
    return _placed(options, ratio=0.75)


def cross_view(options: Options) -> dict[str, Any]:
    """Spell `masking.cross_view`."""
    return _placed(options, ratio=0.9, rounding="down")
