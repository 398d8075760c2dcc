"""Mistakes a user can mend. The command line prints each as one line and exits with code 2."""

import difflib
from collections.abc import Iterable, Sequence


class PolymodalError(Exception):
    """What is wrong, where, and what to do about it: one line."""


class ConfigError(PolymodalError):
    """One or several mistakes of a config, all found at once."""

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PluginError(PolymodalError):
    """A plugin or component that can't be found, loaded or used."""


class DataError(PolymodalError):
    """Data that is missing, or too broken to go on with."""


class UnreadableError(PolymodalError):
    """A single record that can't be used; the run counts it, writes the reason down and goes on."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one, if any is near."""
    matches = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the sentence " Did you mean 'x'?" for a near match, else nothing."""
    match = closest(name, known)
    return "" if match is None else f" Did you mean {match!r}?"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the sentence " Did you mean 'x'?" for a near match, else the known names."""
    names = sorted(known)
    if not names:
        return ""
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return suggest(name, names) or f" Known: {shown}."
