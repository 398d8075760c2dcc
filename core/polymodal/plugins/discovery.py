"""Finding plugins by entry point, loading them one by one, and resolving component names.

Listing imports only the plugins' own light modules. A component's module is imported when a
config names it. A plugin that fails is kept with its error; the others go on.
"""

import os
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any

import pluggy

from polymodal.ground.errors import PluginError, foreign, nearest
from polymodal.plugins import hookspecs
from polymodal.plugins.registry import Component, Plugin, Registry

GROUP = "polymodal"


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


def _interface_of(module: object) -> int:
    """Return the interface version a plugin was built for; this one where it does not say.

    Raises:
        PluginError: it is newer than this polymodal's.
    """
    built_for = getattr(module, "polymodal_interface", hookspecs.INTERFACE)
    if type(built_for) is not int:
        raise PluginError(f"polymodal_interface must be a whole number, got {built_for!r}")
    if built_for > hookspecs.INTERFACE:
        raise PluginError(
            f"it is built for interface version {built_for}, this polymodal has "
            f"version {hookspecs.INTERFACE}. Upgrade: pip install -U polymodal"
        )
    return built_for


@cache
def _named(distribution: metadata.Distribution) -> tuple[str, str]:
    """Return name and version, for which METADATA is parsed once however many plugins ask."""
    known = distribution.metadata
    return known["Name"], known["Version"]


class Plugins:
    """The plugins of this environment, or those registered by hand; loads each one once.

    Args:
        entry_points: instead of this environment's.
        allow: names of the only plugins that may be loaded; all unless given.

    Raises:
        PluginError: `allow` names a plugin that does not exist.
    """

    def __init__(
        self,
        entry_points: Iterable[metadata.EntryPoint] | None = None,
        *,
        allow: Iterable[str] | None = None,
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
        self._whole: Plugins | None = None  # what these are a part of
        if allow is not None:
            allow = set(allow)
            self._require_known(allow)
            self._keep_out(set(self._entry_points) - allow, "not in POLYMODAL_PLUGINS")

    def without(self, names: Iterable[str]) -> "Plugins":
        """Return these plugins with some blocked, as a config's `plugins.block` asks for.

        What is loaded is shared; these plugins themselves stay as they are.

        Raises:
            PluginError: a name that no plugin has.
        """
        names = set(names)
        if not names:
            return self
        self._require_known(names)
        rest = Plugins(point for points in self._entry_points.values() for point in points)
        rest._whole = self
        rest._keep_out(names, "named in plugins.block")
        return rest

    def _require_known(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) - set(self.names())):
            raise PluginError(f"No plugin is called {name!r}.{nearest(name, self.names())}")

    def _keep_out(self, names: Iterable[str], reason: str) -> None:
        for name in names:
            self._loaded[name] = replace(self._found(name), status="blocked", error=reason)

    def names(self) -> list[str]:
        """Return the names of all plugins, sorted, importing nothing."""
        others = self._whole.names() if self._whole else ()
        return sorted({*self._entry_points, *self._loaded, *others})

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
        if name not in self._loaded:
            if name not in self.names():
                raise PluginError(
                    f"No plugin is called {name!r}.{nearest(name, self.names())} If it was just "
                    "added, reinstall its distribution: entry points are read at install time."
                )
            self._loaded[name] = self._shared(name) if self._whole else self._load_found(name)
        return self._loaded[name]

    def _shared(self, name: str) -> Plugin:
        """Return a plugin of the whole, its hooks called here too."""
        assert self._whole is not None
        plugin = self._whole.get(name)
        hooks = self._whole.manager.get_plugin(name)
        if hooks is not None:
            self.manager.register(hooks, name)
        return plugin

    def _found(self, name: str) -> Plugin:
        """Return what is known of a plugin without importing it."""
        if name not in self._entry_points:
            return self._loaded[name] if self._whole is None else self._whole._found(name)
        point = self._entry_points[name][0]
        plugin = Plugin(name, point.value)
        # A distribution whose METADATA is missing can't be named; its plugin may work all the same.
        with suppress(Exception):
            if point.dist is not None:
                plugin.distribution, plugin.version = _named(point.dist)
        return plugin

    def _load_found(self, name: str) -> Plugin:
        plugin = self._found(name)
        points = self._entry_points[name]
        if len(points) > 1:
            owners = ", ".join(p.dist.name if p.dist else p.value for p in points)
            plugin.status, plugin.error = "broken", f"two distributions claim this name: {owners}"
            return plugin
        return self._load(plugin, points[0].load)

    def _load(self, plugin: Plugin, load: Callable[[], object]) -> Plugin:
        try:
            module = load()
            plugin.interface = _interface_of(module)
            self.manager.register(_hooks_of(module), plugin.name)
            registry = Registry(plugin)
            self.call(plugin.name, "polymodal_register", registry=registry)
            plugin.components = registry.components
        except (Exception, SystemExit) as error:
            if self.manager.has_plugin(plugin.name):
                self.manager.unregister(name=plugin.name)
            kind = "" if isinstance(error, PluginError) else f"{type(error).__name__}: "
            plugin.status, plugin.error = "broken", kind + " ".join(str(error).split())
            plugin.traceback = traceback.format_exc()
        return plugin

    def call(self, name: str, hook: str, **arguments: Any) -> list[Any]:
        """Return what one plugin's implementations of a hook return; none without any."""
        own = self.manager.get_plugin(name)
        others = [hooks for hooks in self.manager.get_plugins() if hooks is not own]
        found: list[Any] = self.manager.subset_hook_caller(hook, others)(**arguments)
        return found

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a hook of every plugin loaded so far, the last one loaded first.

        Raises:
            PluginError: a plugin's implementation raised; which one's, and what. The others were
                called all the same.
        """
        failed: PluginError | None = None
        for name, module in reversed(self.manager.list_name_plugin()):
            if module is None or not hasattr(module, hook):
                continue
            try:
                self.call(name, hook, **arguments)
            except (Exception, SystemExit) as error:
                self.get(name).traceback = traceback.format_exc()
                why = f"failed in its hook {hook}: {foreign(error)}"
                told = PluginError(f"The plugin {name!r} {why}")
                told.__cause__ = error
                failed = failed or told
        if failed is not None:
            raise failed

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
                f"'vision.patches'.{self.nearest_component(name, kind)}"
            )
        plugin = self.get(owner)
        plugin.require_usable()
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

    def nearest_component(self, name: str, kind: str) -> str:
        """Return a sentence with the component of a kind that a bare name may mean."""
        known = [
            component.name
            for plugin in self.all()
            for component in plugin.components.values()
            if component.kind == kind
        ]
        endings = [full for full in known if full.partition(".")[2] == name]
        if endings:
            return f" Did you mean {' or '.join(map(repr, endings))}?"
        return nearest(name, known)

    @property
    def hook(self) -> Any:
        """The pluggy hook caller of the plugins loaded so far."""
        return self.manager.hook


@cache
def installed() -> Plugins:
    """Return this environment's plugins.

    `POLYMODAL_PLUGINS` (names by comma) says which of them may be loaded; set and empty, none.
    """
    allowed = os.environ.get("POLYMODAL_PLUGINS")
    names = None if allowed is None else {n.strip() for n in allowed.split(",") if n.strip()}
    try:
        return Plugins(allow=names)
    except PluginError as error:
        raise PluginError(f"POLYMODAL_PLUGINS: {error}") from error
