"""Checks by kind of component, and what each of them found. Suites and the command share these."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from polymodal.ground.errors import PolymodalError, nearest

Status = Literal["passed", "failed", "skipped"]


class ConformanceError(AssertionError):
    """A component breaks its interface: what, where, and what to do about it."""


@dataclass(frozen=True)
class Finding:
    """What one check found out about one component."""

    component: str
    kind: str
    check: str
    status: Status
    rule: str  # what it checks, in one sentence
    message: str = ""  # why it failed or was skipped
    traceback: str | None = None  # where it failed

    def as_json(self) -> dict[str, Any]:
        """Return its fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """One rule of an interface."""

    name: str
    kind: str
    run: Callable[[Any], None]  # takes the subject; raises ConformanceError
    after: tuple[str, ...] = ()  # says nothing new where one of these has failed

    @property
    def summary(self) -> str:
        """The rule, in one sentence."""
        return (self.run.__doc__ or self.name).strip().partition("\n\n")[0].replace("\n", " ")


_CHECKS: dict[str, dict[str, Check]] = {}


def check(
    kind: str, *, after: tuple[str, ...] = ()
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function as a check of a kind of component; its name is the check's.

    A check is not run where one it comes `after` has failed: it could only repeat that.
    """

    def register(run: Callable[[Any], None]) -> Callable[[Any], None]:
        _CHECKS.setdefault(kind, {})[run.__name__] = Check(run.__name__, kind, run, after)
        return run

    return register


def checks(kind: str) -> Mapping[str, Check]:
    """Return the checks of a kind by name, in the order they run."""
    from polymodal.testing import catalogue

    catalogue.load()
    return _CHECKS.get(kind, {})


class Examination:
    """Runs the checks of one component, each once.

    Args:
        component: its name, for the findings.
        kind: of component.
        subject: makes it afresh for the checks.
        skip: checks that do not apply, and why.

    Raises:
        PolymodalError: `skip` names a check that does not exist.
    """

    def __init__(
        self, component: str, kind: str, subject: Any, skip: Mapping[str, str] | None = None
    ):
        self.component = component
        self.kind = kind
        self.subject = subject
        self.skip = dict(skip or {})
        for name in self.skip:
            if name not in checks(kind):
                raise PolymodalError(
                    f"skip: no check of a {kind} is called {name!r}.{nearest(name, checks(kind))}"
                )
        self._found: dict[str, Finding] = {}
        self._held_up: set[str] = set()  # checks that one before them keeps from running
        self.errors: dict[str, BaseException] = {}

    def finding(self, name: str) -> Finding:
        """Return what this check finds."""
        if name not in self._found:
            self._found[name] = self._run(checks(self.kind)[name])
        return self._found[name]

    def findings(self) -> list[Finding]:
        """Return what all checks find, in order."""
        return [self.finding(name) for name in checks(self.kind)]

    def _run(self, each: Check) -> Finding:
        def found(status: Status, message: str = "", trace: str | None = None) -> Finding:
            return Finding(
                self.component, self.kind, each.name, status, each.summary, message, trace
            )

        if each.name in self.skip:
            return found("skipped", self.skip[each.name])
        for before in each.after:
            if self.finding(before).status == "failed" or before in self._held_up:
                self._held_up.add(each.name)
                return found("skipped", f"it comes after {before}, which has not passed")
        try:
            each.run(self.subject)
        except ConformanceError as error:
            self.errors[each.name] = error
            return found("failed", str(error), traceback.format_exc())
        except Exception as error:
            self.errors[each.name] = error
            message = f"it raises {type(error).__name__}: {error}"
            return found("failed", message, traceback.format_exc())
        return found("passed")
