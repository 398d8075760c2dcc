"""The code blocks of the README and of docs/, run page by page, from top to bottom.

    ```python              runs, in a namespace of the page's own
    ```python title="x.py" is written to a file, as is any block with a title
    ```yaml                a config is planned; a part of one is read in the page's last config
    ```sh                  runs in bash; a block of output after it must come out (... is anything)
    ```py                  a piece of a script that its own tests run: only compiled
    ```toml, ```json       is parsed

A page starts in a folder with `runs/quickstart` (the README's config, two steps), `photos/`,
`captions.csv`, `one.png` and `two.png`.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from polymodal import Config, ConfigError, installed, read_config
from polymodal.commands.planning import make_plan
from polymodal.config.shape import StreamConfig
from polymodal.training.train import Training

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = (p for p in DOCS.rglob("*.md") if not p.is_relative_to(DOCS / "reference"))
LANGUAGES = {"python", "py", "yaml", "sh", "toml", "json", "text"}
PACKAGES = (
    "PIL",
    "sklearn",
    "tokenizers",
    "librosa",
    "timm",
    "torch_geometric",
    "hatchling",
    "pip",
)
FURTHER = {"embedding.md": "transformers"}  # packages of single pages
MISSING = [package for package in PACKAGES if find_spec(package) is None]
PAGES = [ROOT / "README.md", *sorted(p for p in WRITTEN if "```" in p.read_text())]


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    fences = [t for t in MarkdownIt().parse(page.read_text()) if t.type == "fence"]
    found = []
    for fence in fences:
        language, _, rest = fence.info.strip().partition(" ")
        line = fence.map[0] + 1
        assert language in LANGUAGES, f"{page}:{line}: a block in {language!r}, which none runs"
        title = re.search(r'title="(.+?)"', rest)
        found.append(Block(line, language, title and title[1], fence.content))
    return found


class Page:
    """Runs a page's blocks in the current folder."""

    def __init__(self, path: Path, environment: dict[str, str]):
        self.path = path
        self.environment = environment
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.config: dict[str, object] = {}

    def run(self) -> None:
        output = None  # of the shell block just before
        found = blocks(self.path)
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.language == "text" and not block.title:
                if output is not None:
                    self.expect(block, output)
                continue
            output = None
            if block.title:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                Path(block.title).write_text(block.text)
                if block.language == "yaml":
                    self.config = yaml.safe_load(block.text)
            elif block.language in {"python", "py"}:
                code = compile("\n" * block.line + block.text, str(self.path), "exec")
                if block.language == "python":
                    exec(code, self.names)
            elif block.language == "yaml":
                self.read(yaml.safe_load(block.text))
            elif block.language == "sh":
                refused = following is not None and following.text.startswith("error:")
                output = self.shell(block, code=2 if refused else 0)
            else:
                {"toml": tomllib.loads, "json": json.loads}[block.language](block.text)

    def expect(self, block: Block, output: str) -> None:
        for line in block.text.splitlines():
            pattern = r"\s+".join(map(re.escape, line.split())).replace(r"\.\.\.", ".*")
            place = f"{self.path.name}:{block.line}"
            assert re.search(pattern, output), f"{place}: {line!r} is not in:\n{output}"

    def read(self, values: dict[str, object]) -> None:
        """Check a config, or a part of one in its place in the page's last."""
        whole = {"streams", "objectives"} <= values.keys()
        if whole:
            self.config = values
        elif values.keys() <= StreamConfig.model_fields.keys():
            name, stream = next(iter(self.config["streams"].items()))
            values = {**self.config, "streams": {**self.config["streams"], name: stream | values}}
        else:
            assert values.keys() <= Config.model_fields.keys(), f"{list(values)}: not of a config"
            values = self.config | values
        file = Path("page.yaml")
        file.write_text(yaml.safe_dump(values))
        config = read_config(file, files=False)
        if whole:
            make_plan(config)

    def shell(self, block: Block, *, code: int) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{self.path.name}:{block.line}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    """A folder with what the pages speak of, and the README's config, trained for two steps."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("material")
    (folder / "photos").mkdir()
    digits = installed().find("demo.digits", "source").load()(samples=8)
    captions = []
    for number in range(len(digits)):
        row = digits.row(number)
        Image.fromarray(row["image"]).save(folder / "photos" / f"{number}.png")
        captions.append((f"{number}.png", row["text"]))
    for table, column in (("captions.csv", "caption"), ("photos/metadata.csv", "label")):
        with open(folder / table, "w", newline="") as file:
            csv.writer(file).writerows([("file_name", column), *captions])
    shutil.copy(folder / "photos/0.png", folder / "one.png")
    shutil.copy(folder / "photos/1.png", folder / "two.png")
    config = next(b for b in blocks(ROOT / "README.md") if b.text.startswith("seed:"))
    (folder / "quickstart.yaml").write_text(config.text)
    changes = [f"data.sources.photos.folder={folder / 'photos'}", "data.batch_size=16",
               "trainer.max_steps=2", "data.sources.digits.samples=200"]  # fmt: skip
    config = read_config(folder / "quickstart.yaml", changes)
    Training(config, folder / "runs/quickstart", quiet=True).run()
    return folder


@pytest.fixture(scope="session")
def commands(tmp_path_factory, warm):
    """A folder with the commands that pages use."""
    folder = tmp_path_factory.mktemp("commands")
    starts = {"python": warm, "polymodal": f"{warm} -m polymodal", "pip": "$OWN_PYTHON -m pip"}
    for name, start in starts.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def own_environment(tmp_path_factory):
    """A virtual environment that sees this one's packages; what is installed stays in it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    paths = {"base": str(folder), "platbase": str(folder)}
    inside = Path(sysconfig.get_path("purelib", vars=paths))
    here = sysconfig.get_path("purelib")
    (inside / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return {"OWN_PYTHON": str(folder / "bin" / "python"), "WARM_SITE": str(inside)}


def test_the_readme_shows_the_errors_that_mistakes_really_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = blocks(ROOT / "README.md")
    config = next(b.text for b in found if b.text.startswith("seed:"))
    shown = next(b.text for b in found if b.text.startswith("error:"))
    mistaken = config.replace("patch: 8", "pach: 8", 1).replace("max_steps", "max_stps", 1)
    Path("run.yaml").write_text(mistaken)
    Path("photos").mkdir()
    with pytest.raises(ConfigError) as caught:
        read_config("run.yaml")
    assert "".join(f"error: {problem}\n" for problem in caught.value.problems) == shown


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_the_page_run(page, tmp_path, monkeypatch, request):
    if page.name in FURTHER:
        pytest.importorskip(FURTHER[page.name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = page.read_text()
    if re.search(r"runs/quickstart|photos|captions.csv", text):
        shutil.copytree(request.getfixturevalue("material"), tmp_path, dirs_exist_ok=True)
    places = [str(request.getfixturevalue("commands")), os.environ["PATH"]]
    own = {}
    if "pip install -e" in text:
        own = request.getfixturevalue("own_environment")
    environment = (
        os.environ
        | own
        | {
            "PATH": os.pathsep.join(places),
            "COLUMNS": "120",
            # pip needs no index: what a page's plugin builds with and depends on is here
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
    )
    try:
        Page(page, environment).run()
    finally:
        installed.cache_clear()  # of plugins that the page registers
