import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from polymodal.commands.scaffold import STARTS, write_distribution

ROOT = Path(__file__).parents[2]
ECG = ROOT / "examples" / "third_party" / "polymodal-ecg"
SETTINGS = "pyproject.toml"
LONGEST = "a-very-long-name-for-a-plugin1"


def settings(folder):
    return tomllib.loads((folder / SETTINGS).read_text(encoding="utf-8"))["tool"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_written_and_the_example_pass_their_own_tests(outside, tmp_path):
    # All in one environment and process, since much of the time goes into starting.
    folders = [write_distribution(f"my-{kind}", kind, out=tmp_path / kind) for kind in STARTS]
    outside.install(*folders, ECG)
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", ECG / SETTINGS]
    # Pytest's own plugins among what is warm.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    tests = [folder / "tests" for folder in (*folders, ECG)]
    outside.run_warm("-m", "pytest", *options, "--rootdir", tmp_path, *tests, cwd=tmp_path)


@pytest.mark.parametrize("name", ["x", LONGEST])
@pytest.mark.parametrize("kind", STARTS)
def test_what_is_written_is_in_order_however_long_its_name(tmp_path, kind, name):
    folder = write_distribution(name, kind, out=tmp_path / "new")
    for command in (["check"], ["format", "--check"]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("folder", ["example", "written"])
def test_plugins_to_copy_are_held_to_what_we_are_held_to(tmp_path, folder):
    folder = ECG if folder == "example" else write_distribution("x", "source", out=tmp_path / "x")
    ours, theirs = settings(ROOT)["ruff"], settings(folder)["ruff"]
    assert theirs["line-length"] == ours["line-length"]
    assert theirs["lint"]["select"] == ours["lint"]["select"]
    assert set(theirs["lint"]["ignore"]) <= set(ours["lint"]["ignore"])
    assert theirs["lint"]["pydocstyle"] == ours["lint"]["pydocstyle"]
    assert settings(folder)["mypy"]["strict"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mypy_with_our_settings_finds_nothing_in_what_is_written(tmp_path):
    folders = [write_distribution(f"x-{kind}", kind, out=tmp_path / kind) for kind in STARTS]
    packages = [next(each.glob("polymodal_*")) for each in (*folders, ECG)]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, packages)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": os.pathsep.join(str(each.parent) for each in packages)},
        check=False,
    )
    assert found.returncode == 0, found.stdout
