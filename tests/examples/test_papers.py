"""Every paper's recipe alike: it says what it is, and its configs build without any data."""

import os
from pathlib import Path

import pytest

from polymodal import read_config
from polymodal.commands.comparing import read_comparison
from polymodal.commands.papers import find_papers
from polymodal.commands.planning import make_plan
from polymodal.plugins.origin import Origin

FOLDER = Path(__file__).parents[2] / "examples" / "papers"
SLUGS = sorted(file.parent.name for file in FOLDER.glob("*/paper.yaml"))


def files(comparisons):
    """The configs of all recipes, or their comparisons, as "slug/file"."""
    found = [file for file in FOLDER.glob("*/*.yaml") if file.name != "paper.yaml"]
    names = sorted(f"{file.parent.name}/{file.name}" for file in found)
    return [name for name in names if name.endswith("comparison.yaml") == comparisons]


def test_every_recipe_says_what_it_shows():
    papers = find_papers(FOLDER)
    assert [paper.slug for paper in papers] == SLUGS
    for paper in papers:
        assert all(paper.as_json().values()), paper.slug


@pytest.mark.parametrize("slug", SLUGS)
def test_every_recipe_has_its_parts(slug):
    for name in ("README.md", "recipe.yaml", "small.yaml", "comparison.yaml"):
        assert (FOLDER / slug / name).is_file(), name


@pytest.mark.parametrize("name", files(comparisons=False))
def test_every_config_builds_without_data(name, monkeypatch):
    monkeypatch.setenv("POLYMODAL_DATA", "missing")
    config = read_config(FOLDER / name, files=False)
    assert make_plan(config, Origin(FOLDER / name))["objectives"]


@pytest.mark.parametrize("name", files(comparisons=True))
def test_every_comparison_has_three_seeds_and_arms_that_differ(name, monkeypatch):
    for written in ("CROCO_FRAMES", "RECEIPTS"):  # by a script: any file that is there will do
        monkeypatch.setenv(written, __file__)
    data = os.environ.get("POLYMODAL_DATA", FOLDER.parents[2] / "shared" / "data")
    if "/real" in name and not Path(data).is_dir():
        pytest.skip("its data are not here")
    comparison = read_comparison(FOLDER / name)
    assert len(comparison.seeds) >= 3
    arms = [tuple((stage.config, str(stage.changes)) for stage in arm)
            for arm in comparison.arms.values()]  # fmt: skip
    assert len(set(arms)) == len(arms) > 1
