"""What a plugin supplies: components by name, each imported when it is asked for."""

import importlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal, get_args

from polymodal.ground.errors import PluginError
from polymodal.plugins.containment import contained

Kind = Literal[
    "reader", "tokenizer", "encoder", "fusion", "objective",
    "source", "method", "evaluation", "tracker",
    "hiding", "replacing", "target", "head", "pooler",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Component:
    """A named piece of a plugin; its class is imported on demand."""

    name: str  # "vision.patches"
    kind: str
    target: str  # "polymodal_vision.patches:Patches"
    summary: str = ""
    plugin: "Plugin | None" = field(default=None, repr=False, compare=False)
    spelling: str | None = None  # "module:function": today's spelling of its options

    def respelled(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options in today's spelling, with "use" where another component stands for it.

        Old configs and short names go on working by it: `masking.simmim` is `masking.tokens` with
        certain parts.

        Raises:
            ValueError: options that no spelling allows; the message starts with the option.
        """
        if self.spelling is None:
            return dict(options)
        module, _, name = self.spelling.partition(":")
        function: Callable[[Mapping[str, Any]], dict[str, Any]]
        function = getattr(importlib.import_module(module), name)
        return function(options)

    def load(self) -> type:
        """Import the component's class.

        Raises:
            PluginError: its module can't be imported, with the package to install if one lacks.
        """
        module_name, _, attribute = self.target.partition(":")
        try:
            with contained():
                found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing and missing == module_name.partition(".")[0]:
                raise PluginError(
                    f"{self.name}: no module {error.name!r} ({self.target})"
                ) from error
            raise PluginError(
                f"{self.name} needs the package {missing!r}, which is not installed. "
                f"Install it: {self._remedy(missing)}"
            ) from error
        except Exception as error:
            if self.plugin:
                self.plugin.traceback = traceback.format_exc()
            raise PluginError(
                f"{self.name} can't be imported ({self.target}): {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, type):
            raise PluginError(f"{self.name}: {self.target} is not a class")
        return found

    def _remedy(self, missing: str) -> str:
        distribution = self.plugin.distribution if self.plugin else None
        if self.plugin and distribution:
            try:
                extras = metadata.metadata(distribution).get_all("Provides-Extra") or []
            except metadata.PackageNotFoundError:
                extras = []
            for extra in (missing, self.plugin.name):  # one package's own extra tells more
                if extra in extras:
                    return f'pip install "{distribution}[{extra}]"'
        return f"pip install {missing}"


class Registry:
    """Collects one plugin's components; a plugin's `polymodal_register` hook receives it."""

    def __init__(self, plugin: "Plugin"):
        self._plugin = plugin
        self.components: dict[tuple[str, str], Component] = {}  # by kind and full name

    def _add(
        self, kind: str, name: str, target: str, summary: str, spelling: str | None = None
    ) -> None:
        full = f"{self._plugin.name}.{name}"
        if not name.isidentifier():
            raise PluginError(f"{full!r} is no component name: use letters, digits and _")
        if (kind, full) in self.components:
            raise PluginError(f"the {kind} {full} is registered twice")
        if target.count(":") != 1:
            raise PluginError(f"{full}: {target!r} must be written 'module:Class'")
        self.components[kind, full] = Component(full, kind, target, summary, self._plugin, spelling)

    def reader(self, name: str, target: str, summary: str = "") -> None:
        """Name a Reader."""
        self._add("reader", name, target, summary)

    def tokenizer(self, name: str, target: str, summary: str = "") -> None:
        """Name a Tokenizer."""
        self._add("tokenizer", name, target, summary)

    def encoder(self, name: str, target: str, summary: str = "") -> None:
        """Name an Encoder."""
        self._add("encoder", name, target, summary)

    def fusion(self, name: str, target: str, summary: str = "") -> None:
        """Name a Fusion."""
        self._add("fusion", name, target, summary)

    def objective(
        self, name: str, target: str, summary: str = "", *, spelling: str | None = None
    ) -> None:
        """Name an Objective.

        Args:
            name: after the plugin's.
            target: "module:Class".
            summary: one line.
            spelling: "module:function" that turns options as they were once spelt, or those of a
                short name, into today's; see `Component.respelled`. Its module imports no torch.
                It raises ValueError, "option why", for options that were wrong even then.
        """
        self._add("objective", name, target, summary, spelling)

    def source(self, name: str, target: str, summary: str = "") -> None:
        """Name a Source."""
        self._add("source", name, target, summary)

    def method(self, name: str, target: str, summary: str = "") -> None:
        """Name a Method."""
        self._add("method", name, target, summary)

    def evaluation(self, name: str, target: str, summary: str = "") -> None:
        """Name an Evaluation."""
        self._add("evaluation", name, target, summary)

    def tracker(self, name: str, target: str, summary: str = "") -> None:
        """Name a Tracker."""
        self._add("tracker", name, target, summary)

    def hiding(self, name: str, target: str, summary: str = "") -> None:
        """Name a Hiding: which tokens are hidden."""
        self._add("hiding", name, target, summary)

    def replacing(self, name: str, target: str, summary: str = "") -> None:
        """Name a Replacing: what stands in their place."""
        self._add("replacing", name, target, summary)

    def target(self, name: str, target: str, summary: str = "") -> None:
        """Name a Target: what is predicted."""
        self._add("target", name, target, summary)

    def head(self, name: str, target: str, summary: str = "") -> None:
        """Name a Head: what makes the predictions."""
        self._add("head", name, target, summary)

    def pooler(self, name: str, target: str, summary: str = "") -> None:
        """Name a Pooler: one vector of many."""
        self._add("pooler", name, target, summary)


@dataclass
class Plugin:
    """An installed plugin: where it comes from, what it supplies, or why it can't be used."""

    name: str
    target: str  # the entry point's module
    distribution: str | None = None
    version: str | None = None
    interface: int | None = None  # the version it was built for; None until it is imported
    components: Mapping[tuple[str, str], Component] = field(default_factory=dict)
    status: Literal["ok", "broken", "blocked"] = "ok"
    error: str | None = None  # why it is broken or blocked, in one line
    traceback: str | None = None  # where its module, or that of a component, raised

    def as_json(self) -> dict[str, Any]:
        """Return what `polymodal plugins --json` shows of it."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "interface": self.interface,
            "status": self.status,
            "error": self.error,
            "traceback": self.traceback,
            "components": [
                {"name": c.name, "kind": c.kind, "summary": c.summary}
                for c in self.components.values()
            ],
        }

    def require_usable(self) -> None:
        """Refuse a broken or blocked plugin.

        Raises:
            PluginError: which distribution it is of, and why it can't be used.
        """
        if self.status != "ok":
            where = f" of {self.distribution} {self.version}" if self.distribution else ""
            raise PluginError(f"The plugin {self.name!r}{where} is {self.status}: {self.error}")
