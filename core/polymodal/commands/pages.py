"""Descriptions as pages of plain text for people, wrapped to whatever width there is."""

import json
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polymodal.commands.describing import in_yaml

PIPE_WIDTH = 100  # where there is no terminal and COLUMNS is not set


def page_width() -> int:
    """Return the columns to write: the terminal's, at most 100; text is hard to read beyond."""
    return max(40, min(shutil.get_terminal_size((PIPE_WIDTH, 24)).columns, 100))


def component_page(found: Mapping[str, Any], width: int) -> str:
    """Return what a component does, how it is written and each option once."""
    parts = [f"{found['name']} ({found['kind']})", f"    {found['import']}"]
    parts += ["", *_prose(found["docstring"] or found["summary"], width)]
    if found["stands_for"]:
        use = found["stands_for"].get("use")
        opening = f"A short name for {use} with" if use else "Written alone it is"
        parts += ["", f"{opening}:", *_yaml(found["stands_for"])]
    own = [option for option in found["options"] if option["group"] is None]
    if own:
        parts += ["", "Options:"]
        parts += [line for option in own for line in _option(option, width)]
    for group, about in found["groups"].items():
        parts += ["", *_wrapped(about or f"{group}:", width)]
        for option in found["options"]:
            if option["group"] == group:
                parts += _option(option, width)
    if found["from_run"]:
        parts += ["", *_wrapped(f"Given by the run: {', '.join(found['from_run'])}.", width)]
    return "\n".join(parts)


def section_page(found: Sequence[Mapping[str, Any]], width: int) -> str:
    """Return the keys of a section of the config and of those within it."""
    parts: list[str] = []
    for section in found:
        title = section["section"] or "The config's top level"
        parts += ["", *_wrapped(f"{title}: {section['summary']}", width)]
        for key in section["keys"]:
            default = "" if key["section"] else f" = {json.dumps(key['default'])}"
            head = f"{key['name']}: {key['type']}"
            head += " (required)" if key["required"] else default
            parts += _entry(head, key["summary"], width)
    return "\n".join(parts[1:])


def _option(option: Mapping[str, Any], width: int) -> Iterator[str]:
    head = f"{option['name']}: {option['type']}"
    head += " (required)" if option["required"] else f" = {in_yaml(option['default'])}"
    yield from _entry(head, option["summary"], width)
    if option["part"]:
        known = ", ".join(option["components"])
        yield from _wrapped(f"A {option['part']}, one of: {known}", width, "      ")
    if option["presets"]:
        names = list(dict.fromkeys(n for of in option["presets"].values() for n in of))
        rows = [[option["name"], *names]]
        rows += [[v, *(str(of.get(n, "")) for n in names)] for v, of in option["presets"].items()]
        spans = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for first, *rest in rows:
            cells = [cell.rjust(span) for cell, span in zip(rest, spans[1:], strict=True)]
            yield "  ".join([f"      {first.ljust(spans[0])}", *cells])


def _entry(head: str, text: str, width: int) -> Iterator[str]:
    yield from _wrapped(head, width, "  ", "        ")
    yield from _wrapped(text, width, "      ")


def _prose(docstring: str, width: int) -> Iterator[str]:
    """Yield a docstring refilled, without "Args:", which the options say."""
    sections = re.split(r"^(Args|Raises|Returns):\n", docstring, flags=re.MULTILINE)
    for number, paragraph in enumerate(re.split(r"\n\s*\n", sections[0].rstrip())):
        if number:
            yield ""
        if re.search(r"^(    |\|)", paragraph, flags=re.MULTILINE):
            yield from paragraph.splitlines()  # code or a table: its lines are meant
            continue
        for item in re.split(r"\n(?=[-*] )", paragraph):
            later = "  " if item.startswith(("- ", "* ")) else ""
            yield from _wrapped(" ".join(item.split()), width, later=later)
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        if title != "Args":
            yield from ("", f"{title}:")
            for entry in re.split(r"\n    (?=\S)", "\n" + text.rstrip())[1:]:
                yield from _wrapped(" ".join(entry.split()), width, "  ", "      ")


def _yaml(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{k}: {_plain(v)}" for k, v in value.items())
            yield f"    {name}: {{{inner}}}"
        else:
            yield f"    {name}: {_plain(value)}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _wrapped(text: str, width: int, first: str = "", later: str | None = None) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=first if later is None else later,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
