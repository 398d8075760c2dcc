"""Writes the site's reference pages from signatures, docstrings and comments.

`make docs` runs it; the pages go to docs/reference/, or to the folder it is given. Nothing imports
torch: components are described from their text. Pages name Python objects as `::: module.Name`,
which mkdocstrings fills in when the site is built.
"""

import ast
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import typer
from pydantic import BaseModel

import polymodal
from polymodal import Plugins
from polymodal.commands.cli import app
from polymodal.commands.describing import in_yaml, type_text
from polymodal.config.keys import Key, keys, sections, summary
from polymodal.plugins.registry import KINDS, Component, Plugin
from polymodal.plugins.signature import Option, read_signature

HERE = Path(__file__).parent / "reference"
HOOKS = {"polymodal_interface", "polymodal_register", "polymodal_examples", "polymodal_commands"}


def write_reference(directory: Path) -> None:
    """Write every page."""
    pages = {"config": config_page(), "cli": cli_page(), "api": api_page()}
    plugins = [p for p in Plugins().all() if p.distribution == "polymodal"]
    pages["components/index"] = component_index(plugins)
    pages |= {f"components/{plugin.name}": plugin_page(plugin) for plugin in plugins}
    for name, text in pages.items():
        path = directory / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


# Components


def anchor(component: Component) -> str:
    """Return the address of a component within its plugin's page."""
    return f"{component.kind}-{component.name.replace('.', '-')}"


def component_index(plugins: list[Plugin]) -> str:
    """Return the list of all components, by kind."""
    parts = [
        "# Components\n",
        "What a config can `use`, by kind. Other people's are not here: `polymodal plugins` lists "
        "those of your environment, `polymodal describe` their options.\n",
    ]
    every = [component for plugin in plugins for component in plugin.components.values()]
    for kind in KINDS:
        rows = [
            [f"[`{c.name}`]({c.name.partition('.')[0]}.md#{anchor(c)})", c.summary]
            for c in every
            if c.kind == kind
        ]
        if rows:
            parts += [f"## {kind.capitalize()}s\n", table(["component", "what it does"], rows)]
    return "\n".join(parts)


def plugin_page(plugin: Plugin) -> str:
    """Return a plugin's components with their options, and what its module exports."""
    module = ast.parse(_source(plugin.target))
    parts = [f"# {plugin.name}\n", f"{ast.get_docstring(module) or ''}\n"]
    for component in plugin.components.values():
        parts.append(component_text(component))
    exported = [name for name in exports(module) if name not in HOOKS]
    if exported:
        parts.append(f"## In Python\n\nWhat `{plugin.target}` exports.\n")
        parts += [f"::: {plugin.target}.{name}\n" for name in exported]
    return "\n".join(parts)


def component_text(component: Component) -> str:
    """Return what a component does and takes."""
    signature = read_signature(component.target)
    parts = [
        f"## {component.name} ({component.kind}) {{ #{anchor(component)} }}\n",
        f"{without_arguments(signature.docstring)}\n",
    ]
    if not signature.options:
        parts.append("It has no options.\n")
    if signature.own:
        parts.append(option_table(signature.own.values()))
    for group, about in signature.groups.items():
        options = [each for each in signature.options.values() if each.group == group]
        parts += [f"{about}\n", option_table(options)]
        for option in options:
            if option.presets:
                parts += [f"What `{option.name}` stands for:\n", preset_table(option)]
    return "\n".join(parts)


def option_table(options: Iterable[Option]) -> str:
    """Return options with their types, defaults and meaning."""
    rows = [
        [
            f"`{option.name}`",
            f"`{type_text(option)}`",
            "required" if option.default is None else f"`{in_yaml(option.default)}`",
            option.summary,
        ]
        for option in options
    ]
    return table(["option", "type", "default", "what it is"], rows)


def preset_table(option: Option) -> str:
    """Return the values of other options that each value of this one stands for."""
    names = list(dict.fromkeys(name for values in option.presets.values() for name in values))
    rows = [
        [f"`{option.name}: {value}`", *(str(values.get(name, "")) for name in names)]
        for value, values in option.presets.items()
    ]
    return table(["written", *names], rows)


def without_arguments(docstring: str) -> str:
    """Return a docstring without "Args:", which the table of options has, and errors as a list."""
    sections = re.split(r"^(Args|Raises|Returns):\n", docstring, flags=re.MULTILINE)
    kept = sections[0].rstrip()
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        if title != "Args":
            entries = re.split(r"\n    (?=\S)", "\n" + text.rstrip())[1:]
            lines = [" ".join(entry.split()) for entry in entries]
            kept += f"\n\n{title}:\n\n" + "\n".join(f"- {line}" for line in lines)
    return kept


# Config


def config_page() -> str:
    """Return every section of the config with its keys."""
    parts = [
        "# Config\n",
        "A key that is not here is refused. Where a component is named (`use:`), further keys are "
        "its [options](components/index.md); a bare name stands for `{use: name}`.\n",
    ]
    paths: dict[type[BaseModel], list[str]] = {}
    for path, model in sections():
        paths.setdefault(model, []).append(path)
    for model, found in paths.items():
        title = ", ".join(path or "Top level" for path in found)
        parts += [f"## {title}\n", f"{summary(model)}\n"]
        parts.append(table(["key", "type", "default", "what it is"], map(key_row, keys(model))))
    return "\n".join(parts)


def key_row(key: Key) -> list[str]:
    """Return a key's name, type, default and meaning."""
    default = "required" if key.required else f"`{json.dumps(key.default, default=str)}`"
    shown = "" if key.section and not key.required else default
    return [f"`{key.name}`", f"`{key.type}`", shown, key.summary]


# Command line and Python


def cli_page() -> str:
    """Return the help of every command."""
    group = typer.main.get_command(app)
    parts = ["# Command line\n", "`--debug` anywhere shows the traceback of an error.\n"]
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        with command.make_context(
            f"polymodal {name}", ["--help"], resilient_parsing=True
        ) as context:
            parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def api_page() -> str:
    """Return a page that names everything `polymodal` and `polymodal.testing` export."""
    parts = ["# Python\n", "`from polymodal import ...`; importing it does not import torch.\n"]
    parts.append("## polymodal\n")
    parts += [f"::: polymodal.{name}\n" for name in sorted(polymodal.__all__, key=str.lower)]
    names = exports(ast.parse(_source("polymodal.testing")))
    parts += ["## polymodal.testing\n", *(f"::: polymodal.testing.{name}\n" for name in names)]
    return "\n".join(parts)


def exports(module: ast.Module) -> list[str]:
    """Return the names in a module's `__all__`."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        shutil.rmtree(HERE, ignore_errors=True)  # pages of components that are no more
    write_reference(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
