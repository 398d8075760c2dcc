"""A distribution of one's own, written from templates: `polymodal new`.

A template is a folder under `templates/` with the files of a real plugin called `newcomer`. Each
file's name ends in "-tpl", so that no tool takes it for code of ours.
"""

import os
import re
import tempfile
from pathlib import Path

from polymodal.ground.errors import PolymodalError, nearest
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.registry import KINDS

TEMPLATES = Path(__file__).parents[1] / "templates"
# A modality: reader, tokenizer, encoder and source. Parts begin as a hiding does.
STARTS = ("modality", *(kind for kind in KINDS if (TEMPLATES / kind).is_dir()))

_NAME = re.compile(r"(?:polymodal[-_])?([a-z][a-z0-9]*(?:[-_][a-z0-9]+)*)")
_LONGEST = 30  # with a longer name the lines of the templates would not fit


def write_distribution(
    name: str, kind: str, *, out: Path | None = None, plugins: Plugins | None = None
) -> Path:
    """Return the folder of a new distribution, with a working plugin, its tests and an example.

    Args:
        name: of the plugin, "heart-rate"; the distribution is called "polymodal-heart-rate".
        kind: of component to start from, or "modality".
        out: the folder to write; named like the distribution, in this one, unless given.
        plugins: those of this environment unless given.

    Raises:
        PolymodalError: a bad or a taken name, an unknown kind, a folder that exists or can't be
            written. Then nothing is written.
    """
    if kind not in STARTS:
        raise PolymodalError(f"--kind: {kind!r} is no kind to start from.{nearest(kind, STARTS)}")
    found = _NAME.fullmatch(name)
    if found is None or len(found[1]) > _LONGEST:
        raise PolymodalError(
            f"{name!r} is no name for a plugin: write small letters, digits and hyphens, a letter "
            f"first, at most {_LONGEST}, for example heart-rate"
        )
    plugin = found[1].replace("-", "_")
    plugins = plugins or installed()
    if plugin in plugins.names():
        taken = plugins.get(plugin)
        owner = f" by {taken.distribution} {taken.version}" if taken.distribution else ""
        raise PolymodalError(f"the plugin {plugin!r} is installed already{owner}; choose another")
    words = {
        "polymodal-newcomer": f"polymodal-{plugin.replace('_', '-')}",
        "polymodal_newcomer": f"polymodal_{plugin}",
        "newcomer": plugin,
    }
    folder = out or Path(words["polymodal-newcomer"])
    if folder.exists():
        raise PolymodalError(f"{folder} exists already; remove it, or choose another --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".polymodal-new-") as partial:
            whole = Path(partial) / "whole"
            for template in ("distribution", kind):
                _fill(TEMPLATES / template, whole, words)
            os.rename(whole, folder)
    except OSError as error:
        raise PolymodalError(f"{folder} can't be written: {error.strerror or error}") from error
    return folder


def _fill(template: Path, folder: Path, words: dict[str, str]) -> None:
    """Write a template's files to a folder, with other words in their names and text."""
    pattern = re.compile("|".join(words))  # the longest first: each contains the last

    def named(text: str) -> str:
        return pattern.sub(lambda match: words[match[0]], text)

    for file in sorted(template.rglob("*-tpl")):
        path = folder / named(str(file.relative_to(template)).removesuffix("-tpl"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(named(file.read_text(encoding="utf-8")), encoding="utf-8")
