"""Finding plugins by entry point, loading them one by one, and resolving component names.

Listing imports only the plugins' own light modules. A component's module is imported when a
config names it. A plugin that fails is kept with its error; the others go on.
"""

import importlib
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any, Literal, get_args

import pluggy

from polymodal import hookspecs
from polymodal.containment import contained
from polymodal.errors import PluginError, nearest

GROUP = "polymodal"

Kind = Literal[
    "reader", "tokenizer", "encoder", "fusion", "objective",
    "source", "method", "evaluation", "tracker",
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

    def _add(self, kind: str, name: str, target: str, summary: str) -> None:
        full = f"{self._plugin.name}.{name}"
        if not name.isidentifier():
            raise PluginError(f"{full!r} is no component name: use letters, digits and _")
        if (kind, full) in self.components:
            raise PluginError(f"the {kind} {full} is registered twice")
        if target.count(":") != 1:
            raise PluginError(f"{full}: {target!r} must be written 'module:Class'")
        self.components[kind, full] = Component(full, kind, target, summary, self._plugin)

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

    def objective(self, name: str, target: str, summary: str = "") -> None:
        """Name an Objective."""
        self._add("objective", name, target, summary)

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


@dataclass
class Plugin:
    """An installed plugin: where it comes from, what it supplies, or why it can't be used."""

    name: str
    target: str  # the entry point's module
    distribution: str | None = None
    version: str | None = None
    interface: int | None = None
    components: Mapping[tuple[str, str], Component] = field(default_factory=dict)
    status: Literal["ok", "broken", "blocked"] = "ok"
    error: str | None = None
    traceback: str | None = None


def _hooks_of(module: object) -> ModuleType:
    """Return a module with the hooks alone.

    Handed the plugin itself, pluggy would look at every name `dir` shows, and so import what the
    plugin only loads on demand; and it would ignore a hook that no specification names.

    Raises:
        PluginError: a hook that no specification names.
    """
    known = {name for name in vars(hookspecs) if name.startswith("polymodal_")}
    hooks = ModuleType(getattr(module, "__name__", type(module).__name__))
    for name, value in vars(module).items():
        if getattr(value, "polymodal_impl", None) is None:
            continue
        if name not in known:
            raise PluginError(f"it implements an unknown hook {name!r}.{nearest(name, known)}")
        setattr(hooks, name, value)
    return hooks


class Plugins:
    """The plugins of this environment, or those registered by hand; loads each one once."""

    def __init__(
        self,
        entry_points: Iterable[metadata.EntryPoint] | None = None,
        *,
        allow: Iterable[str] | None = None,
        block: Iterable[str] = (),
    ):
        if entry_points is None:
            entry_points = metadata.entry_points(group=GROUP)
        self.manager = pluggy.PluginManager("polymodal")
        self.manager.add_hookspecs(hookspecs)
        self._entry_points: dict[str, list[metadata.EntryPoint]] = {}
        for point in entry_points:
            known = self._entry_points.setdefault(point.name, [])
            if all(point.value != other.value for other in known):
                known.append(point)
        self._loaded: dict[str, Plugin] = {}
        self._allow = None if allow is None else set(allow)
        self._block: set[str] = set()
        if self._allow is not None:
            self._known_or_raise(self._allow, "POLYMODAL_PLUGINS")
        self.block(block)

    def block(self, names: Iterable[str]) -> None:
        """Keep these plugins out.

        Raises:
            PluginError: a name that no plugin has.
        """
        names = set(names)
        self._known_or_raise(names, "plugins.block")
        self._block |= names
        for name in names:
            if name in self._loaded:
                self.manager.set_blocked(name)
                del self._loaded[name]

    def _known_or_raise(self, names: Iterable[str], where: str) -> None:
        for name in names:
            if name not in self._entry_points and name not in self._loaded:
                hint = nearest(name, self.names())
                raise PluginError(f"{where}: no plugin is called {name!r}.{hint}")

    def names(self) -> list[str]:
        """Return the names of all plugins, sorted, importing nothing."""
        return sorted({*self._entry_points, *self._loaded})

    def register(self, name: str, module: ModuleType | object) -> Plugin:
        """Add a plugin by hand, as tests and notebooks do; an entry point does the same."""
        plugin = Plugin(name, getattr(module, "__name__", type(module).__name__))
        self._loaded[name] = self._load(plugin, lambda: module)
        return self._loaded[name]

    def get(self, name: str) -> Plugin:
        """Return a plugin, loaded; broken ones carry their error.

        Raises:
            PluginError: no plugin has this name.
        """
        if name in self._loaded:
            return self._loaded[name]
        points = self._entry_points.get(name)
        if not points:
            raise PluginError(
                f"No plugin is called {name!r}.{nearest(name, self.names())} If it was just "
                "added, reinstall its distribution: entry points are read at install time."
            )
        point = points[0]
        distribution = point.dist
        plugin = Plugin(
            name,
            point.value,
            distribution.name if distribution else None,
            distribution.version if distribution else None,
        )
        if name in self._block or (self._allow is not None and name not in self._allow):
            plugin.status = "blocked"
            plugin.error = (
                "blocked by plugins.block" if name in self._block else "not in POLYMODAL_PLUGINS"
            )
        elif len(points) > 1:
            owners = ", ".join(p.dist.name if p.dist else p.value for p in points)
            plugin.status, plugin.error = "broken", f"two distributions claim this name: {owners}"
        else:
            self._load(plugin, point.load)
        self._loaded[name] = plugin
        return plugin

    def _load(self, plugin: Plugin, load: Callable[[], object]) -> Plugin:
        try:
            module = load()
            plugin.interface = getattr(module, "polymodal_interface", hookspecs.INTERFACE)
            if plugin.interface > hookspecs.INTERFACE:
                raise PluginError(
                    f"it is built for interface version {plugin.interface}, this polymodal has "
                    f"version {hookspecs.INTERFACE}. Upgrade: pip install -U polymodal"
                )
            hooks = _hooks_of(module)
            self.manager.register(hooks, plugin.name)
            registry = Registry(plugin)
            others = [p for p in self.manager.get_plugins() if p is not hooks]
            self.manager.subset_hook_caller("polymodal_register", others)(registry=registry)
            plugin.components = registry.components
        except Exception as error:
            if self.manager.has_plugin(plugin.name):
                self.manager.unregister(name=plugin.name)
            plugin.status = "broken"
            plugin.error = (
                str(error)
                if isinstance(error, PluginError)
                else (f"{type(error).__name__}: {error}")
            )
            plugin.traceback = traceback.format_exc()
        return plugin

    def all(self) -> list[Plugin]:
        """Load every plugin and return them by name, broken and blocked ones included."""
        return [self.get(name) for name in self.names()]

    def find(self, name: str, kind: str) -> Component:
        """Return the component of this name and kind.

        Raises:
            PluginError: no such plugin or component, with the nearest name; a broken or blocked
                plugin, with its error; a component of another kind.
        """
        owner, dot, _ = name.partition(".")
        if not dot:
            raise PluginError(
                f"{name!r} is no component name: write 'plugin.component', for example "
                f"'vision.patches'.{self._nearest_component(name, kind)}"
            )
        if owner not in self.names():
            hint = nearest(owner, self.names())
            raise PluginError(
                f"No plugin is called {owner!r}.{hint} If it was just added, reinstall its "
                "distribution: entry points are read at install time."
            )
        plugin = self.get(owner)
        if plugin.status != "ok":
            where = f" of {plugin.distribution} {plugin.version}" if plugin.distribution else ""
            error = PluginError(f"The plugin {owner!r}{where} is {plugin.status}: {plugin.error}")
            error.plugin_traceback = plugin.traceback  # type: ignore[attr-defined]
            raise error
        component = plugin.components.get((kind, name))
        if component is not None:
            return component
        same_kind = [full for of_kind, full in plugin.components if of_kind == kind]
        other = next((of_kind for of_kind, full in plugin.components if full == name), None)
        if other is not None:
            article = "an" if other[0] in "aeiou" else "a"
            known = f" Known {kind}s: {', '.join(sorted(same_kind))}." if same_kind else ""
            raise PluginError(f"{name!r} is {article} {other}, but {kind} is wanted here.{known}")
        raise PluginError(f"The plugin {owner!r} has no {kind} {name!r}.{nearest(name, same_kind)}")

    def _nearest_component(self, name: str, kind: str) -> str:
        known = [
            component.name
            for plugin in self.all()
            for component in plugin.components.values()
            if component.kind == kind
        ]
        endings = [full for full in known if full.partition(".")[2] == name]
        return f" Did you mean {endings[0]!r}?" if endings else nearest(name, known)

    @property
    def hook(self) -> Any:
        """The pluggy hook caller of the plugins loaded so far."""
        return self.manager.hook


@cache
def installed() -> Plugins:
    """Return this environment's plugins; `POLYMODAL_PLUGINS` (names by comma) restricts them."""
    allowed = os.environ.get("POLYMODAL_PLUGINS")
    names = None if allowed is None else {n.strip() for n in allowed.split(",") if n.strip()}
    return Plugins(allow=names)
