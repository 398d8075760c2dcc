"""A run that is killed, at any moment and any number of times, ends as if it had not been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from polymodal.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint

STEPS = 20
MEAN = "optimizer/main/weight/mean"
WORKER = str(Path(__file__).parents[1] / "mortal_worker.py")
SMALL = {"width": 16, "depth": 2, "heads": 2}

# Teachers, centres, a queue and counts, a phase, an average of weights, random views and dropout;
# lines of metrics that straddle checkpoints.
VIEWS = {
    "streams": {
        "image": {
            "tokenizer": {
                "use": "vision.patches", "size": 16, "patch": 8,
                "augment": {"crop": [0.4, 1.0], "flip": 0.5},
            },
            "encoder": {"use": "vision.vit", **SMALL, "dropout": 0.1, "drop_path": 0.1},
        }
    },
    "objectives": {
        "dino": {
            "use": "distillation.dino", "stream": "image", "outputs": 16, "hidden": 16,
            "bottleneck": 8,
        },
        "moco": {"use": "contrastive.moco", "stream": "image", "dim": 8},
        "kept": {"use": "remembering.objective", "stream": "image"},
    },
    "data": {"sources": {"digits": {"use": "demo.digits"}}, "batch_size": 6},
    "trainer": {"max_steps": STEPS, "log_every": 2, "checkpoint_every": 3, "ema": 0.9,
                "ledger_every": 4, "keep_checkpoints": 2, "device": "cpu"},
}  # fmt: skip

# A token budget within which like lengths come together, a learned vocabulary, samples that lack a
# stream or can't be read, one objective drawn per step, and evaluations.
BUDGET = {
    "streams": {
        "text": {
            "tokenizer": {"use": "text.wordpiece", "vocabulary_size": 80},
            "encoder": {"use": "text.transformer", **SMALL, "dropout": 0.1},
        },
        "signal": {
            "tokenizer": {"use": "sensor.windows"},
            "encoder": {"use": "sensor.transformer", **SMALL, "drop_path": 0.2},
        },
    },
    "objectives": {
        "words": {"use": "masking.tokens", "stream": "text", "weight": 2.0, "batch_size": 9},
        "rebuild": {"use": "masking.simmim", "stream": "signal"},
        "kept": {"use": "remembering.objective", "stream": "signal"},
    },
    "data": {
        "sources": {
            "waves": {"use": "sensor.waves", "broken": 3, "split": {"validation": 0.1}},
            "genomes": {"use": "demo.genomes", "samples": 80},
        },
        "batch_size": 12, "tokens": 90, "group_by_length": 4, "max_skipped": 0.5,
    },
    "evaluate": {
        "rebuilt": {"use": "evaluation.held_out", "objective": "rebuild", "source": "waves"}
    },
    "trainer": {"max_steps": STEPS, "log_every": 1, "checkpoint_every": 4, "evaluate_every": 6,
                "objectives": "one", "device": "cpu"},
}  # fmt: skip


class Mortal:
    """Has things done in processes forked from a warm one, and kills them."""

    def __init__(self):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.warm = subprocess.Popen(
            [sys.executable, WORKER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def start(self, what, **arguments):
        """Let a function of the worker run, and return the number of its process."""
        self.warm.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.warm.stdin.flush()
        return int(self.warm.stdout.readline())

    def end(self):
        """Wait for what was started, and return how it ended."""
        return int(self.warm.stdout.readline())

    def train(
        self, values, out, *, workers=0, die_at=None, kill_when=None, by=signal.SIGKILL, after=0.0
    ):
        """Train to the end, to where `die_at` says, or until killed from outside.

        That is `after` seconds after `kill_when` first holds.
        """
        values = deepcopy(values)
        values["data"]["workers"] = workers
        process = self.start(
            "train", config=values, out=str(out), seen=f"{out}.seen", die_at=die_at
        )
        if kill_when is not None:
            until = time.monotonic() + 120
            while not kill_when() and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(after)
            with suppress(ProcessLookupError):  # it was quicker
                os.kill(process, by)
        return self.end()


@pytest.fixture(scope="module")
def mortal():
    found = Mortal()
    with found.warm:  # its end closes the pipe, and the warm process ends too
        yield found


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def seen(out):
    """The samples of each step; of one that was made twice, they must be the same."""
    found = {}
    for step, keys in lines(Path(f"{out}.seen")):
        assert found.setdefault(step, keys) == keys
    return found


def left_behind(values, out):
    """What a run has to show, times aside."""
    timed = {"samples_per_second", "tokens_per_second", "waiting"}
    (*_, last) = sorted((out / "checkpoints").iterdir())
    return {
        "seen": seen(out),
        "metrics": [
            {name: value for name, value in line.items() if name not in timed}
            for line in lines(out / "metrics.jsonl")
        ],
        "skipped": lines(out / "skipped.jsonl"),
        "evaluation": (out / "evaluation.json").read_text() if "evaluate" in values else "",
        "files": sorted(str(path.relative_to(out)) for path in out.rglob("*")),
        "state": torch.load(last / "state.pt", weights_only=True),
        "model": load_file(out / "model" / "model.safetensors"),
        "weights": load_file(last / "model.safetensors"),
        "kept": load_file(last / "tensors.safetensors"),
    }


def check_equal(one, other):
    """Equal bit for bit."""
    for what, value in one.items():
        if what in ("model", "weights", "kept"):
            assert value.keys() == other[what].keys()
            for name, tensor in value.items():
                assert torch.equal(tensor, other[what][name]), name
        else:
            assert value == other[what], what


@pytest.fixture(scope="module", params=["views", "budget"])
def whole(request, mortal, tmp_path_factory):
    """A config, and what a run of it leaves behind that nobody killed."""
    values = {"views": VIEWS, "budget": BUDGET}[request.param]
    out = tmp_path_factory.mktemp("whole") / "run"
    assert mortal.train(values, out) == 0
    found = left_behind(values, out)
    assert len(found["seen"]) == STEPS
    return values, found


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(whole, mortal, tmp_path):
    values, wanted = whole
    out, draw = tmp_path / "run", random.Random(STEPS)

    def at_step(first, last):
        step = draw.randint(first, last)
        return lambda: max(seen(out), default=-1) >= step

    def writing():
        return any((out / "checkpoints").glob(".writing-*"))

    # Each life has another number of workers; what they had read ahead dies with them.
    ends = [
        mortal.train(values, out, die_at=draw.randrange(10)),
        mortal.train(values, out, workers=1, kill_when=at_step(2, 6)),
        mortal.train(values, out, workers=4, kill_when=writing),
        mortal.train(values, out, workers=2, die_at=draw.randrange(20, 50)),
        mortal.train(values, out, workers=2, kill_when=at_step(14, 18)),
    ]
    assert ends == [-signal.SIGKILL] * 5
    assert mortal.train(values, out) == 0
    check_equal(wanted, left_behind(values, out))


@pytest.mark.slow
def test_any_number_of_ends_by_any_signal_leave_what_none_would(whole, mortal, tmp_path):
    """`POLYMODAL_KILLS=100` for more of them; the last number is the seed."""
    values, wanted = whole
    kills, _, seed = os.environ.get("POLYMODAL_KILLS", "4").partition(",")
    draw = random.Random(int(seed or 0))
    signals = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    # A signal saves where it finds the run, so that checkpoints are of other steps.
    compared = ("seen", "metrics", "skipped", "evaluation", "model")
    want = {what: wanted[what] for what in compared}
    for number in range(int(kills)):
        out = tmp_path / str(number // 8)
        reached = max(seen(out), default=0)
        step = min(reached + draw.randint(0, 4), STEPS - 4)
        ended = mortal.train(
            values, out, workers=draw.choice([0, 0, 1, 2]), by=draw.choice(signals),
            kill_when=lambda out=out, step=step: max(seen(out), default=-1) >= step,
            after=draw.uniform(0, 0.2),
        )  # fmt: skip
        if ended == 0 or number % 8 == 7 or number == int(kills) - 1:
            assert mortal.train(values, out) == 0
            found = left_behind(values, out)
            check_equal(want, {what: found[what] for what in compared})


def test_a_kill_at_any_moment_of_writing_leaves_the_last_whole_checkpoint(mortal, tmp_path):
    moments = 0
    while True:
        folder = tmp_path / str(moments)
        mortal.start("write_checkpoints", folder=str(folder), steps=[1, 2, 3], die_at=moments)
        ended = mortal.end()
        last = 0
        if found := checkpoints(folder):
            model = nn.Linear(2, 2)
            tensors, state = load_checkpoint(found[-1], model)
            last = state["step"]
            assert (model.weight == last).all() and (tensors[MEAN] == last).all()
        save_checkpoint(folder, 4, nn.Linear(2, 2), {MEAN: torch.zeros(2, 2)}, {}, keep=2)
        names = {path.name for path in folder.iterdir()}
        assert names == {f"step-{step:09}" for step in (last, 4) if step}
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        moments += 1
    assert last == 3 and moments > 12
