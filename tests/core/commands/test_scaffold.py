import subprocess
import sys

import pytest

from polymodal import PolymodalError
from polymodal.commands.scaffold import STARTS, write_distribution
from polymodal.plugins.discovery import Plugins


@pytest.mark.parametrize("kind", STARTS)
def test_every_kind_has_package_tests_example_and_nothing_of_the_template_left(tmp_path, kind):
    folder = write_distribution("heart-rate", kind, out=tmp_path / "new")
    for name in ("pyproject.toml", "README.md", "example.yaml", "polymodal_heart_rate/__init__.py",
                 "polymodal_heart_rate/py.typed", "tests/test_example.py"):  # fmt: skip
        assert (folder / name).is_file()
    for path in folder.rglob("*"):
        assert "newcomer" not in path.name and "tpl" not in path.name
        assert path.is_dir() or "newcomer" not in path.read_text(encoding="utf-8")
    assert f"    registry.{'reader' if kind == 'modality' else kind}(" in (
        folder / "polymodal_heart_rate" / "__init__.py"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["heart-rate", "polymodal-heart-rate", "heart_rate"])
def test_the_distribution_bears_the_prefix_once(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = write_distribution(name, "source")
    assert folder.name == "polymodal-heart-rate"
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert 'name = "polymodal-heart-rate"' in text
    assert 'heart_rate = "polymodal_heart_rate"' in text


def test_a_name_that_contains_the_templates_own_is_written_right(tmp_path):
    folder = write_distribution("newcomers", "source", out=tmp_path / "new")
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert 'newcomers = "polymodal_newcomers"' in text


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("2d-ecg", "modality", "'2d-ecg' is no name for a plugin: write small letters"),
        ("Ecg", "modality", "'Ecg' is no name"),
        ("e cg", "modality", "'e cg' is no name"),
        ("ecg-", "modality", "'ecg-' is no name"),
        ("../ecg", "modality", "'../ecg' is no name"),
        ("", "modality", "'' is no name"),
        ("polymodal-", "modality", "'polymodal-' is no name"),
        ("e" * 31, "modality", "at most 30"),
        ("vision", "modality", "the plugin 'vision' is installed already by polymodal"),
        ("polymodal-vision", "reader", "the plugin 'vision' is installed already"),
        ("ecg", "tokeniser", "'tokeniser' is no kind to start from. Did you mean 'tokenizer'?"),
        ("taken", "modality", "polymodal-taken exists already"),
    ],
)
def test_what_can_not_be_is_one_line_and_nothing_is_written(
    tmp_path, monkeypatch, name, kind, text
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "polymodal-taken").mkdir()
    with pytest.raises(PolymodalError) as caught:
        write_distribution(name, kind)
    assert text in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["polymodal-taken"]


def test_a_template_that_breaks_halfway_leaves_nothing(tmp_path, monkeypatch):
    from polymodal.commands import scaffold

    def full(template, folder, words):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scaffold, "_fill", full)
    with pytest.raises(PolymodalError, match="can't be written: No space left on device"):
        write_distribution("ecg", "reader", out=tmp_path / "new", plugins=Plugins([]))
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_to_do_next_and_imports_no_torch(tmp_path):
    code = (
        "import sys\n"
        "from polymodal.commands.cli import main\n"
        "sys.argv = ['polymodal', 'new', 'ecg', '--kind', 'encoder']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "cd polymodal-ecg" in found.stdout and "pytest" in found.stdout
    assert (tmp_path / "polymodal-ecg" / "pyproject.toml").is_file()
    command = [sys.executable, "-m", "polymodal", "new", "ecg"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr == (
        "error: polymodal-ecg exists already; remove it, or choose another --out\n"
    )
