"""Trains on shares of made-up batches, in one process or several, and writes every gradient down.

    [torchrun --nproc-per-node 2] rank_worker.py OUT ddp|fsdp STEPS MICRO_BATCHES KIND

KIND of objectives: "many", "separable" (those of them whose batch may be cut) or "comparisons" (all
forms of contrastive losses). Each step has another batch, in which samples lack streams at random;
with "many", every fourth has but one objective. OUT gets the losses and the whole gradient of each
step and the last weights, from rank 0.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from polymodal import Encoded, Loss, Need, Objective, Phase, Phased, Teacher
from polymodal.config.shape import Config
from polymodal.ground.distributed import gather_rows, is_shard, rank, sum_over_ranks, world_size
from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel
from polymodal.nn.transformer import Transformer
from polymodal.packed.batch import Batch
from polymodal.plugins.discovery import installed
from polymodal.testing.toys import TOY_STREAMS, take, toy_batch, toy_info
from polymodal.training.optimization import Optimization
from polymodal.training.parallel import processes

STREAMS = ("patches", "words", "causal_words")
SAMPLES = 8


class VirtualAdversary(Objective):
    """Vectors that stay where they are under the worst small change of the embeddings."""

    def needs(self):
        return {"patches": Need(values=True)}

    def forward(self, step):
        encoder, tokens = step.encoder("patches"), step.tokens("patches")
        stem = encoder.embed(tokens)
        clean = encoder.contextualize(stem).pooled_rows()
        noise = (step.uniform("noise", tokens)[:, None] - 0.5) * torch.ones(stem.width)
        noise.requires_grad_()
        moved = self.through(encoder, stem, noise)
        (worst,) = step.grad((moved - clean.detach()).square().sum(), [noise])
        worst = worst / worst.norm(dim=1, keepdim=True).clamp(min=0.1)
        there = self.through(encoder, stem, 0.1 * worst.detach())
        rows = sum(tokens.layout.present)
        return Loss((there - clean).square().sum(), rows)

    def through(self, encoder, stem, noise):
        return encoder.contextualize(
            Encoded(stem.layout, stem.vectors + noise, stem.pooled)
        ).pooled_rows()


class Adversary(Phased):
    """An encoder whose vectors do not tell how many tokens there were; the head is apart."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, 1)

    def needs(self):
        return {"words": Need()}

    def phases(self):
        return {"head": Phase(list(self.head.parameters()), updates=2, learning_rate=0.01)}

    def error(self, step, rows):
        lengths = torch.tensor(step.tokens("words").layout.lengths, dtype=rows.dtype)
        present = lengths > 0
        found = self.head(rows)[:, 0] - lengths / 10
        return (found.square() * present).sum(), int(present.sum())

    def phase_loss(self, step, phase):
        with torch.no_grad():
            rows = step.encode("words").pooled_rows()
        return Loss(*self.error(step, rows))

    def forward(self, step):
        total, count = self.error(step, step.encode("words").pooled_rows())
        return Loss(-total, count)


class Follow(Objective):
    """A slow copy's vectors, less a centre that follows the batch."""

    separable = False  # the centre is of a whole batch

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(32))

    def needs(self):
        return {"patches": Need()}

    def attach(self, model):
        self.teacher = Teacher(model.encoder("patches"))

    def forward(self, step):
        wanted = self.teacher(step.tokens("patches")).pooled_rows() - self.centre
        found = step.encode("patches").pooled_rows()
        present = torch.tensor(step.tokens("patches").layout.present)
        self.seen = gather_rows(wanted[present]).detach()
        return Loss((found - wanted)[present].square().sum(), int(present.sum()))

    def after_update(self, step):
        self.teacher.follow(step.encoder("patches"), 0.9)
        self.centre.lerp_(self.seen.sum(dim=0) / max(len(self.seen), 1), 0.1)


def comparisons(info):
    find = installed().find
    infonce = find("contrastive.infonce", "objective").load()
    siglip = find("contrastive.siglip", "objective").load()
    simclr = find("contrastive.simclr", "objective").load()
    pair = {"info": info, "streams": ["patches", "words"], "dim": 16}
    return {
        "plain": infonce(**pair),
        "tiled": infonce(**pair, tile=1),
        "sharp": infonce(**pair, temperature=0.01),
        "keyed": infonce(**pair, same="words"),
        "one_way": infonce(**pair, symmetric=False),
        "three": infonce(info, streams=list(STREAMS), dim=16),
        "sigmoid": siglip(**pair, same="words"),
        "ring": siglip(**pair, same="words", exchange="ring"),
        "tiled_ring": siglip(**pair, exchange="ring", tile=1),
        "views": simclr(info, stream="patches", dim=16),
    }


def objectives(info, kind):
    if kind == "comparisons":
        return comparisons(info)
    find = installed().find
    infonce = find("contrastive.infonce", "objective").load()
    siglip = find("contrastive.siglip", "objective").load()
    tokens = find("masking.tokens", "objective").load()
    hiding = find("hiding.tokens", "hiding").load()
    mae = find("masking.mae", "objective").load()
    following = find("generation.next_token", "objective").load()
    found = {
        "align": infonce(info, streams=["patches", "words"], dim=16),
        "tiled": infonce(info, streams=["patches", "words"], dim=16, tile=2),
        "pairs": siglip(info, streams=["patches", "words"], dim=16),
        "words": tokens(info, stream="words", hide=hiding(0.4)),
        "rebuild": mae(info, stream="patches"),
        "next": following(info, stream="causal_words"),
        "virtual": VirtualAdversary(),
        "adversary": Adversary(),
        "follow": Follow(),
    }
    return {n: each for n, each in found.items() if kind == "many" or each.separable}


def model(kind: str) -> PretrainingModel:
    torch.manual_seed(0)
    info = toy_info(STREAMS)
    return PretrainingModel(
        {s: s for s in STREAMS},
        {s: TOY_STREAMS[s].encoder() for s in STREAMS},
        {s: TOY_STREAMS[s].spec for s in STREAMS},
        objectives=objectives(info, kind),
    )


def step_batch(number: int) -> Batch:
    generator = np.random.default_rng(number)
    absent = {
        stream: np.flatnonzero(generator.random(SAMPLES) < generator.random()).tolist()
        for stream in STREAMS
    }
    lengths = generator.integers(1, 9, SAMPLES).tolist()
    batch = toy_batch(STREAMS, lengths=lengths, absent=absent, seed=number)
    patches = batch.streams["patches"]
    doubled = patches.with_rows(patches.rows.double())
    again = patches.with_rows((patches.rows + 0.1 * patches.rows.flip(1)).double())
    return replace(batch, streams={**batch.streams, "patches": doubled, "views/again": again})


def share(batch: Batch, part: int, parts: int) -> Batch:
    size = batch.samples
    return take(batch, range(size * part // parts, size * (part + 1) // parts))


def whole(tensor):
    return tensor.full_tensor() if is_shard(tensor) else tensor


def settings(strategy: str, steps: int, names: list[str]) -> Config:
    slot = {"use": "a.b"}  # only rates are looked up
    slots = dict.fromkeys(names, slot)
    if "words" in slots:
        slots["words"] = {**slot, "own_update_rate": 1e-2}
    return Config.model_validate(
        {
            "streams": {},
            "encoders": dict.fromkeys(STREAMS, slot),
            "objectives": slots,
            "optimizer": {"learning_rate": 1e-3, "epsilon": 0.1, "schedule": "constant"},
            "trainer": {"max_steps": steps, "strategy": strategy},
        }
    )


def main(out: str, strategy: str, steps: int, micro: int, kind: str) -> None:
    torch.set_default_dtype(torch.float64)  # rounding alone would add up over the steps
    trained = model(kind)
    names = list(trained.objectives)
    optimization = Optimization(trained, settings(strategy, steps, names), torch.device("cpu"))
    if strategy == "fsdp" and world_size() > 1:
        blocks = [b for m in trained.modules() if isinstance(m, Transformer) for b in m.blocks]
        assert blocks and all(is_shard(p) for p in trained.parameters())
        local = sum(p.to_local().numel() for p in trained.parameters())
        assert local < 0.7 * sum(p.numel() for p in trained.parameters())
    first, parts = rank() * micro, world_size() * micro
    written = {}
    for number in range(steps):
        # One objective, or several that change from step to step.
        drawn = names
        if kind == "many":
            drawn = names[number % 3 :: 3] if number % 4 else [names[number % len(names)]]
        batch = step_batch(number)
        batches = [share(batch, first + m, parts) for m in range(micro)]
        losses = optimization.backward(batches, drawn, number=number, total=steps)
        for name in drawn:
            total = torch.stack([found[name].total.detach() for found in losses]).sum()
            written[f"{number}/loss of {name}"] = sum_over_ranks(total)
        for name, parameter in trained.named_parameters():
            if parameter.grad is not None:
                written[f"{number}/{name}"] = whole(parameter.grad).clone()
        optimization.apply(batches, drawn)
        step = Step(trained, batches[-1], number=number, total=steps)
        for name in drawn:
            trained.objective(name).after_update(step)
    for name, parameter in trained.named_parameters():
        written[f"weights/{name}"] = whole(parameter).detach().clone()
    if rank() == 0:
        save_file(written, out)


if __name__ == "__main__":
    with processes("cpu"):
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
