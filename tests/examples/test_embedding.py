"""Each script runs as it is, from anywhere, and shows what it says."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "examples" / "embedding"


@pytest.fixture
def printed(warm):
    def printed(name, folder):
        ran = subprocess.run(
            [warm, SCRIPTS / f"{name}.py"],
            capture_output=True, text=True, cwd=folder, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return printed


def test_every_script_has_a_row_and_every_row_a_script():
    rows = re.findall(r"\| \[(.*?)\]\((.*?)\) \|", (SCRIPTS / "README.md").read_text())
    assert sorted(SCRIPTS.glob("*.py")) == sorted(SCRIPTS / file for _, file in rows)


@pytest.mark.slow
def test_a_bare_loop_fills_in_digits(tmp_path, printed):
    shares = [int(share) for share in re.findall(r": (\d+)% of", printed("bare_loop", tmp_path))]
    assert shares[0] < 25 and shares[-1] > 50  # chance is 10
    assert list(tmp_path.iterdir()) == []  # no run directory


@pytest.mark.slow
def test_lightning_trains_the_model(tmp_path, printed):
    pytest.importorskip("lightning")
    for package in ("PIL", "tokenizers", "sklearn"):
        pytest.importorskip(package)
    found = re.search(r"(\S+) before, (\S+) after", printed("lightning_module", tmp_path))
    assert float(found[2]) < float(found[1]) - 0.2


@pytest.mark.slow
def test_a_transformers_model_is_trained_and_handed_back(tmp_path, printed):
    for package in ("transformers", "tokenizers", "sklearn"):
        pytest.importorskip(package)
    text = printed("transformers_encoder", tmp_path)
    shares = [int(share) for share in re.findall(r": (\d+)% of", text)]
    assert shares[-1] > shares[0] + 10
    assert float(re.search(r"at most (\S+)", text)[1]) < 1e-5


@pytest.mark.slow
def test_the_loss_alone_is_torchs_and_tiles_change_no_gradient(tmp_path, printed):
    text = printed("loss_alone", tmp_path)
    ours, torchs = re.search(r"loss (\S+), by torch's cross-entropy (\S+)", text).groups()
    assert ours == torchs
    assert float(re.search(r"at most (\S+)", text)[1]) < 1e-6
