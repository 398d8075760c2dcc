"""Mistakes a user can mend. The command line prints each as one line and exits with code 2."""

import difflib
import errno
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


class Stopped(PolymodalError):
    """A run that a signal ended, after what it had done was saved.

    Args:
        text: what came, and how to go on.
        signal: its number; the command line exits with 128 more, as shells have it.
    """

    def __init__(self, text: str, signal: int):
        super().__init__(text)
        self.signal = signal


def foreign(error: BaseException) -> str:
    """Return what an exception of another library says, in one line, its kind before it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def unreadable(error: Exception) -> UnreadableError:
    """Return what a reader, tokenizer or source of anyone's raised as a fault of the record.

    Raises:
        PolymodalError: one of ours that stops a run; a shortage of file handles, which is no
            fault of the record.
    """
    if isinstance(error, UnreadableError):
        return error
    if isinstance(error, PolymodalError):
        raise error
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise too_many_files() from error
    found = UnreadableError(foreign(error))
    found.__cause__ = error
    return found


def too_many_files() -> DataError:
    """Return what to say when the system hands out no more file handles."""
    return DataError(
        "too many open files: raise the limit (ulimit -n 4096), or lower data.workers or "
        "data.prefetch"
    )


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
