"""What the other ranks say when one of them ends."""

import os
import socket
import subprocess
import sys

import pytest

WORKER = """
import os, signal, sys
import torch.distributed as dist
from polymodal import DataError, PolymodalError
from polymodal.training.parallel import processes

def work(how):
    with processes("cpu"):
        dist.barrier()
        if dist.get_rank() == 1:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("row 7 is torn")
        dist.barrier()

try:
    work(sys.argv[1])
except PolymodalError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message"),
    [("killed", "rank 1 was lost: killed"), ("failed", "rank 1 ended: DataError: row 7 is torn")],
)
def test_a_rank_that_ends_is_named_by_the_others(how, message):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, how],
            env=os.environ | {
                "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [each.communicate()[1] for each in started]
    lines = [line for line in said[0].splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert started[0].returncode == 1
