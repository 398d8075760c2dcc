"""Does jobs that are made to be killed, each in a process forked from this one, which is warm.

Reads a job a line from standard input: {"do": "train", ...}, the rest being arguments of the
function of that name. For each it prints the number of the process that does it and, when that is
over, how it ended. With `die_at`, the process kills itself just before its n-th change of what
the job's folder holds.
"""

import itertools
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import remembering_plugin
import sensor_plugin
import torch
import torch._dynamo  # with their first optimiser all runs would, for a second each

from polymodal.config.reading import check_config
from polymodal.plugins.discovery import Plugins
from polymodal.runs.build import Builder
from polymodal.training.checkpoint import save_checkpoint
from polymodal.training.train import Training

CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir"}


def die_before(number, folder):
    """Let this process be killed just before its `number`-th change of what a folder holds."""
    left = itertools.count(number, -1)

    def look(event, arguments):
        if event == "open":
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            inside = str(arguments[0]).startswith(folder)
        elif changes := event in CHANGES:
            # What removes a tree gives names within a folder that it holds open.
            inside = str(arguments[0]).startswith(folder) or arguments[-1] != -1
        if changes and inside and not next(left):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def train(config, out, seen, die_at=None):
    """Start or go on with a run; write the keys of the samples of every step to `seen`."""
    if die_at is not None:
        die_before(die_at, out)
    config = check_config(config, plugins=PLUGINS)
    training = Training(config, out, plugins=PLUGINS, quiet=True, resume=True)
    batches = training.batches

    def noting():
        for refs, micro_batches in batches():
            keys = [batch.keys.tolist() for batch in micro_batches]
            with open(seen, "a", encoding="utf-8") as file:
                file.write(json.dumps([training.step, keys]) + "\n")
            yield refs, micro_batches

    training.batches = noting
    training.run()


def write_checkpoints(folder, steps, die_at):
    """Write a checkpoint for each of some steps, with the step's number all over it."""
    die_before(die_at, folder)
    for step in steps:
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, step)
        tensors = {"optimizer/main/weight/mean": torch.full((2, 2), float(step))}
        save_checkpoint(Path(folder), step, model, tensors, {"step": step}, keep=2)


def main():
    for line in sys.stdin:
        job = json.loads(line)
        if "config" in job:  # import what its parts need
            Builder(check_config(job["config"], plugins=PLUGINS), plugins=PLUGINS).check()
        child = os.fork()
        if not child:
            os.dup2(2, 1)
            try:
                {"train": train, "write_checkpoints": write_checkpoints}[job.pop("do")](**job)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    PLUGINS = Plugins()
    PLUGINS.register("sensor", sensor_plugin)
    PLUGINS.register("remembering", remembering_plugin)
    main()
