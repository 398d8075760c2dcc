"""Two processes that train on shares of a batch do what one does on all of it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polymodal import PolymodalError
from polymodal.training.parallel import launched

STEPS = 72  # in which each objective is twice alone
WORKER = str(Path(__file__).parents[1] / "rank_worker.py")


CONFIG = """
streams:
  text:
    tokenizer: {use: text.wordpiece, vocabulary_size: 60}
    encoder: {use: text.transformer, size: pico}
objectives:
  words: {use: masking.tokens, stream: text, frequencies: true}
data:
  batch_size: 4
  sources:
    rows: {use: data.table, path: rows.jsonl}
# The bias of keys has no gradient but rounding: the large epsilon keeps AdamW from following it.
optimizer: {epsilon: 1.0e-5}
trainer: {max_steps: 6, checkpoint_every: 3, device: cpu, strategy: fsdp, ema: 0.9}
"""


@pytest.fixture(scope="module")
def launch(warm):
    """Starts a program in some processes, by torchrun if there are several."""

    def launch(*program, ranks, cwd=None):
        start = [warm]
        if ranks > 1:
            start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        environment = os.environ | {"PYTHON_EXEC": warm}  # what torchrun starts
        for _ in range(2):
            found = subprocess.run(
                [*start, *program], cwd=cwd, env=environment, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            # Seen once, on a busy machine, and not again in 14 runs: a process aborts, for a reason
            # not known. An abort is tried once more; wrong numbers, errors and hangs are not.
            if "Signal 6 (SIGABRT)" not in found.stderr:
                break
        assert found.returncode == 0, found.stderr[-20_000:]

    return launch


@pytest.fixture(scope="module")
def run(launch):
    def run(out, strategy, *, ranks, steps, micro=1, kind="many"):
        launch(WORKER, str(out), strategy, str(steps), str(micro), kind, ranks=ranks)
        return load_file(out)

    return run


def check_equal(one, other):
    """Equal to 1e-9 of each gradient's largest entry, or of 1; what only one has must be zero.

    Losses to 1e-6: some add up in float32 whatever the weights are.
    """
    assert not one.keys() - other.keys()
    for name, value in other.items():
        if name not in one:
            assert not value.any(), name
            continue
        scale = max(1.0, float(one[name].abs().max())) * (1e-6 if "/loss of " in name else 1e-9)
        torch.testing.assert_close(value, one[name], atol=scale, rtol=0, msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, run):
    out = tmp_path_factory.mktemp("alone") / "gradients.safetensors"
    return run(out, "ddp", ranks=1, steps=STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_have_the_gradients_of_one_process(tmp_path, run, alone, strategy):
    found = run(tmp_path / "found.safetensors", strategy, ranks=2, steps=STEPS)
    check_equal(alone, found)


@pytest.mark.slow
def test_micro_batches_on_two_ranks_have_the_gradients_of_one_batch(tmp_path, run):
    options = {"steps": 12, "kind": "separable"}
    whole = run(tmp_path / "whole.safetensors", "ddp", ranks=1, **options)
    found = run(tmp_path / "found.safetensors", "ddp", ranks=2, micro=2, **options)
    check_equal(whole, found)


@pytest.fixture(scope="module")
def compared(tmp_path_factory, run):
    out = tmp_path_factory.mktemp("compared") / "gradients.safetensors"
    return run(out, "ddp", ranks=1, steps=3, kind="comparisons")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "ranks", "micro"), [("ddp", 1, 4), ("ddp", 4, 1), ("fsdp", 2, 2)]
)
def test_comparisons_have_the_losses_and_gradients_of_one_batch_on_one_process(
    tmp_path, run, compared, strategy, ranks, micro
):
    out = tmp_path / "found.safetensors"
    found = run(out, strategy, ranks=ranks, steps=3, micro=micro, kind="comparisons")
    check_equal(compared, found)


@pytest.mark.slow
def test_two_nodes_on_one_machine_train_together(tmp_path, compared):
    out = tmp_path / "found.safetensors"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}",
             "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}",
             WORKER, str(out), "ddp", "3", "1", "comparisons"],
            stderr=subprocess.PIPE, text=True,
        )
        for node in range(2)
    ]  # fmt: skip
    errors = [node.communicate()[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    check_equal(compared, load_file(out))


@pytest.mark.slow
def test_a_checkpoint_loads_at_another_number_of_ranks(tmp_path, launch):
    def train(out, *more, ranks):
        program = ("-m", "polymodal", "train", "run.yaml", "--out", out, "--quiet", *more)
        launch(*program, ranks=ranks, cwd=tmp_path)
        return load_file(tmp_path / out / "model" / "model.safetensors")

    rows = [f"the {word} runs {n} times" for n in range(6) for word in ("dog", "cat", "bird")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in rows))
    (tmp_path / "run.yaml").write_text(CONFIG)
    whole = train("one", ranks=1)
    sharded = train("two", ranks=2)
    first = tmp_path / "two" / "checkpoints" / "step-000000003"
    assert (first / "shards").is_dir()
    # From step 3 on: what two ranks had in shards in one process, what one had in two shards.
    for name, ranks in (("two", 1), ("one", 2)):
        shutil.rmtree(tmp_path / name / "checkpoints" / "step-000000006")
        found = train(name, "--resume", ranks=ranks)
        for one in (whole, sharded):
            assert one.keys() == found.keys()
            for key, value in one.items():
                torch.testing.assert_close(found[key], value, atol=2e-5, rtol=0, msg=key)


TORCHRUN = {
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"
}  # fmt: skip
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "41",
    "SLURM_STEP_NODELIST": "node7",
}  # fmt: skip


def test_the_launchers_environment_is_understood():
    assert launched({}) is None
    assert launched({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None
    assert launched(TORCHRUN) == TORCHRUN
    found = launched(SRUN)
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("3", "4", "1")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("node7", "20041")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "each train alone; start with torchrun or srun"),
        (SRUN | {"SLURM_STEP_NODELIST": "node[1-2]"}, "set MASTER_ADDR to the first one's name"),
    ],
)
def test_a_launch_that_would_leave_each_rank_alone_is_refused(environment, message):
    with pytest.raises(PolymodalError, match=message):
        launched(environment)
