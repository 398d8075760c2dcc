"""Reading a config's YAML: plain values, where each was written, and what YAML gets wrong."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from polymodal.ground.errors import ConfigError, nearest, suggest

Problem = tuple[str, str]
"""The path of a value ("data.sources.digits.path"), and what is wrong with it."""

UNRESOLVED = "${}"
"""Stands for a value whose interpolation failed."""

_VARIABLE = re.compile(r"Environment variable '([^']*)' not found")
_KEY = re.compile(r"Interpolation key '([^']*)' not found")
# Sections that hold named parts.
_PARTS = ("streams", "tokenizers", "encoders", "modules", "objectives", "methods", "evaluate",
          "trackers", "data.sources")  # fmt: skip
_MOST_VALUES = 100_000  # of a config, aliases written out
_BOOL = "tag:yaml.org,2002:bool"


class Origin:
    """Where each value of a config was written, for error messages."""

    def __init__(self, path: Path | None = None, overrides: Sequence[str] = ()):
        self.path = path
        self._lines: dict[str, int] = {}
        self._overridden = {item.partition("=")[0] for item in overrides}
        if path is not None:
            self._walk(yaml.compose(path.read_text(encoding="utf-8")), "")

    def _walk(self, node: yaml.Node | None, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = key.value
                if key.tag == _BOOL:  # "on:" and "yes:" are true to YAML
                    name = "true" if name.lower() in ("yes", "on", "true") else "false"
                where = f"{prefix}.{name}" if prefix else str(name)
                self._lines[where] = key.start_mark.line + 1
                self._walk(value, where)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._lines[f"{prefix}.{number}"] = value.start_mark.line + 1
                self._walk(value, f"{prefix}.{number}")

    def paths(self) -> list[str]:
        """Return the paths of everything that stands in the file."""
        return list(self._lines)

    def line(self, where: str) -> int | None:
        """Return the line of a path, or of the nearest section around it; None off the file."""
        probe = where
        while probe:
            if probe in self._overridden:
                return None
            if probe in self._lines:
                return self._lines[probe]
            if any(key.startswith(f"{probe}.") for key in self._overridden):
                return None
            probe = probe.rpartition(".")[0]
        return 0

    def written(self, where: str) -> str:
        """Return the path under which a value stands in the file.

        An option that has moved into a part since the config was written (`words.ratio`, today
        `words.hide.ratio`) is found by its name around the part.
        """
        known = self._lines.keys() | self._overridden
        around, last = where.rpartition(".")[0], where.rpartition(".")[2]
        if where not in known:
            while around and around not in known:
                around = around.rpartition(".")[0]
            if f"{around}.{last}" in known:
                return f"{around}.{last}"
        return where

    def of(self, where: str) -> str:
        """Return "file:line: path", or as much of it as is known."""
        line = self.line(where)
        if line is None:
            return f"command line: {where}"
        if self.path is None:
            return where
        return f"{self.path}:{line}: {where}" if line else f"{self.path}: {where}"

    def error(self, problems: Iterable[Problem]) -> ConfigError:
        """Return all problems as one error, each once, in the order of the file."""

        def place(problem: Problem) -> float:
            line = self.line(problem[0])
            return float("inf") if line is None else line

        written = ((self.written(where), text) for where, text in problems)
        found = sorted(dict.fromkeys(written), key=place)
        return ConfigError([f"{self.of(where)}: {text}" for where, text in found])


def read_yaml(path: Path) -> DictConfig:
    """Return a YAML file with its interpolations.

    Raises:
        ConfigError: it does not exist, or is no YAML with keys and values.
    """
    if not path.is_file():
        if path.is_dir():
            raise ConfigError([f"{path} is a folder; name a YAML file"])
        names = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError([f"{path}: no such file.{nearest(path.name, names)}"])
    text = _checked_text(path)
    try:
        with _yaml_errors(path, text):
            tree = OmegaConf.create(text)
    except OmegaConfBaseException as error:
        raise Origin(path).error([(error.full_key or "", _interpolation(error, ()))]) from error
    if not isinstance(tree, DictConfig):
        raise ConfigError([f"{path}: must hold keys and values, such as 'streams:'"])
    return tree


def load_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file, which may be foreign: a run's config, say.

    Raises:
        ConfigError: it is no YAML, or its aliases stand for more than any config holds.
    """
    text = _checked_text(path)
    with _yaml_errors(path, text):
        return yaml.safe_load(text)


def _checked_text(path: Path) -> str:
    """Return a YAML file's text once its aliases are found harmless: a few lines can mean billions.

    Raises:
        ConfigError: it can't be read, or means more than `_MOST_VALUES`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text (byte {error.start})"]) from error
    except OSError as error:
        raise ConfigError([f"{path} can't be read: {error.strerror or error}"]) from error
    if "*" not in text:  # no alias
        return text
    with _yaml_errors(path, text):
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        count = _values(node, {}) if node is not None else 0
    if count > _MOST_VALUES:
        raise ConfigError(
            [f"{path}: its aliases (*name) stand for more than {_MOST_VALUES:,} values"]
        )
    return text


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for, aliases written out.

    Args:
        node: of a composed document.
        known: those of nodes seen already; 0 while one is counted.

    Raises:
        MarkedYAMLError: it holds itself.
    """
    if known.get(id(node)) == 0:
        raise yaml.MarkedYAMLError(problem="found a recursive node", problem_mark=node.start_mark)
    if id(node) not in known:
        known[id(node)] = 0
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = list(node.value)
        known[id(node)] = 1 + sum(_values(each, known) for each in inner)
    return known[id(node)]


@contextmanager
def _yaml_errors(path: Path, text: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_yaml_problem(path, text, error)]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not valid YAML: {one_line(error)}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path}: its values lie too deep within each other"]) from error


def _yaml_problem(path: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{path}: not valid YAML: {one_line(error)}"
    lines = text.splitlines() or [""]
    number = min(mark.line, len(lines) - 1)  # the end of the file is the end of its last line
    line = lines[number]
    hint = ""
    if re.search(r"[{\[].*[:,\[]\s*\$\{", line):
        hint = ": within { } and [ ], put ${...} in quotes"
    elif line[: len(line) - len(line.lstrip())].count("\t"):
        hint = ": indent by spaces, not by tabs"
    elif error.context_mark is not None and error.context_mark.line != number:
        hint = f" ({error.context}, from line {error.context_mark.line + 1} on)"
    return f"{path}:{number + 1}: not valid YAML: {error.problem or error.context}{hint}"


def override(tree: DictConfig, changes: Sequence[str]) -> list[Problem]:
    """Apply `key=value` changes to a tree; return what is wrong with them.

    A named part (`objectives.align`, `data.sources.photos`) that is set to null is taken out.
    """
    problems = []
    for item in changes:
        key, equals, _ = item.partition("=")
        if not equals or not key:
            problems.append((item, "a change to the config must be written key=value"))
            continue
        try:
            tree.merge_with_dotlist([item])
            section, _, name = key.rpartition(".")
            if section in _PARTS and OmegaConf.select(tree, key) is None:
                del OmegaConf.select(tree, section)[name]
        except yaml.MarkedYAMLError as error:
            problems.append((key, f"the value is not valid YAML: {error.problem}"))
        except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
            problems.append((key, one_line(str(error).partition("full_key:")[0])))
    return problems


def plain_values(tree: DictConfig, origin: Origin) -> tuple[dict[str, Any], list[Problem]]:
    """Return a tree as plain values, interpolations filled in, and what could not be."""
    problems: list[Problem] = []

    def plain(node: Any, where: str) -> Any:
        if isinstance(node, ListConfig):
            return [entry(node, number, f"{where}.{number}") for number in range(len(node))]
        if not isinstance(node, DictConfig):
            return node
        found = {}
        for key in node:
            name = str(key).lower() if isinstance(key, bool) else str(key)
            place = f"{where}.{name}" if where else name
            if isinstance(key, bool):
                problems.append((place, f"YAML takes this key for {name}: put it in quotes"))
            found[name] = entry(node, key, place)
        return found

    def entry(node: Any, key: Any, where: str) -> Any:
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            problems.append((where, _interpolation(error, origin.paths())))
            return UNRESOLVED
        return plain(value, where)

    try:
        return plain(tree, ""), problems
    except RecursionError as error:
        raise ConfigError([f"{origin.path}: an interpolation ${{...}} contains itself"]) from error


def _interpolation(error: OmegaConfBaseException, known: Iterable[str]) -> str:
    text = str(error).partition("\n")[0]
    if isinstance(error, MissingMandatoryValue):
        return "must be set: '???' stands for a value still to be given"
    if found := _VARIABLE.search(text):
        name = found[1]
        return (
            f"the environment variable {name} is not set. Set it (export {name}=...), or give a "
            f"default: ${{oc.env:{name},default}}"
        )
    if found := _KEY.search(text):
        return f"the config has no {found[1]!r} to take the value from.{suggest(found[1], known)}"
    if "Recursive interpolation" in text:
        return "the interpolation refers to itself"
    return f"can't be interpolated: {one_line(text)}"


def one_line(error: BaseException | str) -> str:
    """Return a message without its line breaks."""
    return " ".join(str(error).split())
