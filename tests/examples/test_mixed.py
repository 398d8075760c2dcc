"""The mixed run is killed and goes on as if it had not been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

CONFIG = str(Path(__file__).parents[2] / "examples" / "mixed.yaml")
for package in ("tree_sitter", "torch_geometric", "sklearn", "PIL", "tokenizers"):
    pytest.importorskip(package)


def command(out, *more):
    changes = ["trainer.max_steps=4", "trainer.checkpoint_every=2", "data.batch_size=16",
               "trainer.log_every=1", "trainer.device=cpu", "evaluate={}"]  # fmt: skip
    start = [sys.executable, "-m", "polymodal", "train", CONFIG, "--out", str(out), "--quiet"]
    return [*start, *more, *changes]


@pytest.mark.slow
@pytest.mark.skipif("POLYMODAL_LONG" not in os.environ, reason="2 minutes: set POLYMODAL_LONG=1")
def test_the_mixed_run_survives_a_kill(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True)
    process = subprocess.Popen(command(killed))
    while not (killed / "checkpoints" / "step-000000002").is_dir():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run(command(killed, "--resume"), check=True)
    one, other = (load_file(run / "model" / "model.safetensors") for run in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, killed)]
    assert len(losses[0]) == len(losses[1]) == 4
