"""Everything a plugin may supply. A plugin is one module, named by an entry point `polymodal`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import typer

    from polymodal.interfaces.example import Example
    from polymodal.interfaces.model import Model
    from polymodal.plugins.registry import Registry

INTERFACE = 1
"""The version of these hooks and of the component interfaces. A plugin module says the one it was
built for as `polymodal_interface = 1`."""

hookspec = pluggy.HookspecMarker("polymodal")
hookimpl = pluggy.HookimplMarker("polymodal")


@hookspec
def polymodal_register(registry: "Registry") -> None:
    """Name components, each as "module:Class", so that listing them imports nothing heavy."""


@hookspec
def polymodal_examples() -> "Iterable[Example]":
    """Return a small example of each component, with which `polymodal check` can check it.

    Import what the examples need within the hook: listing plugins does not call it.
    """
    return ()


@hookspec
def polymodal_commands(app: "typer.Typer") -> None:
    """Add commands to the command line."""


@hookspec
def polymodal_model_built(model: "Model", config: Any) -> None:
    """Adjust a model after it is built, before weights are loaded and the optimiser is built."""


@hookspec
def polymodal_run_started(directory: str, config: Any) -> None:
    """Learn that a run starts, before its first step."""


@hookspec
def polymodal_run_ended(directory: str, error: BaseException | None) -> None:
    """Learn that a run ended, and by what error if it failed."""
