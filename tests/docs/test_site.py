"""The site's pages, links and reference, without building it."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml
from markdown_it import MarkdownIt

import polymodal
from polymodal import Config, Plugins
from polymodal.commands.cli import app
from polymodal.commands.describing import describe_component

ROOT = Path(__file__).parents[2]
GENERATE = """
import runpy, sys
sys.argv[1:] = [{directory!r}]
runpy.run_path({script!r}, run_name="__main__")
heavy = {{"torch", "timm", "librosa", "torch_geometric", "datasets"}} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The generated pages by path below docs/."""
    directory = tmp_path_factory.mktemp("site") / "reference"
    script = str(ROOT / "docs" / "reference.py")
    code = GENERATE.format(directory=str(directory), script=script)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    return {
        f"reference/{path.relative_to(directory)}": path.read_text()
        for path in directory.rglob("*.md")
    }


@pytest.fixture(scope="module")
def pages(reference):
    """Every page of the site by path below docs/."""
    docs = ROOT / "docs"
    written = {str(path.relative_to(docs)): path.read_text() for path in docs.rglob("*.md")}
    return {n: t for n, t in written.items() if not n.startswith("reference/")} | reference


def nav_pages(nav):
    for entry in nav if isinstance(nav, list) else [nav]:
        if isinstance(entry, dict):
            for inner in entry.values():
                yield from nav_pages(inner)
        else:
            yield entry


def links(text):
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for inline in token.children or ():
            if inline.type == "link_open":
                yield inline.attrGet("href")


def anchors(text):
    """The addresses of a page's headings, as Python-Markdown makes them."""
    found = set()
    tokens = MarkdownIt().parse(text)
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open":
            given = re.search(r"\{ #(\S+) \}", inline.content)
            plain = re.sub(r"[^\w\s-]", "", inline.content).strip().lower()
            found.add(given[1] if given else re.sub(r"[-\s]+", "-", plain))
    return found | set(re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE))


def test_the_navigation_has_every_written_page_and_names_no_other(pages):
    nav = list(nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert [page for page in nav if page not in pages] == []
    assert sorted(p for p in pages if not p.startswith("reference/components/")) == sorted(
        page for page in nav if page != "reference/components/index.md"
    )


def test_links_between_pages_lead_somewhere(pages):
    broken = []
    for name, text in pages.items():
        for link in links(text):
            if re.match(r"\w+:", link):
                continue
            target, _, anchor = link.partition("#")
            place = (ROOT / "docs" / name).parent / target if target else ROOT / "docs" / name
            page = str(place.resolve().relative_to(ROOT / "docs"))
            if page not in pages or (anchor and anchor not in anchors(pages[page])):
                broken.append(f"{name}: {link}")
    assert broken == []


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(file):
    local = [link for link in links((ROOT / file).read_text()) if not re.match(r"\w+:", link)]
    assert [link for link in local if not (ROOT / link.partition("#")[0]).exists()] == []


def test_the_reference_has_every_component_with_all_its_options(reference):
    plugins = Plugins()
    ours = [plugin for plugin in plugins.all() if plugin.distribution == "polymodal"]
    assert ours
    for plugin in ours:
        page = reference[f"reference/components/{plugin.name}.md"]
        sections = re.split(r"^## ", page, flags=re.MULTILINE)
        for kind, name in plugin.components:
            (section,) = (s for s in sections if s.startswith(f"{name} ({kind})"))
            (described,) = describe_component(name, kind, plugins=plugins)
            rows = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
            assert rows == [option["name"] for option in described["options"]]
            assert f"[`{name}`]({plugin.name}.md#" in reference["reference/components/index.md"]


def test_the_reference_has_every_name_command_and_key(reference):
    for name in polymodal.__all__:
        assert f"::: polymodal.{name}\n" in reference["reference/api.md"]
    for command in typer.main.get_command(app).commands:
        assert f"## {command}\n" in reference["reference/cli.md"]
    for key in [*Config.model_fields, "freeze_layers", "max_skipped", "by", "checkpoint_every"]:
        assert f"| `{key}` |" in reference["reference/config.md"]


def test_the_readme_lists_every_component():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for plugin in Plugins().all():
        for kind, name in plugin.components:
            assert f"| `{name}` | {kind} |" in text, f"{name} ({kind})"
