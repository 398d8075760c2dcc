"""An objective that keeps all there is to keep: a queue, counts, a phase, a slow copy."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from polymodal import Loss, Need, Phase, Phased, Teacher, hookimpl
from polymodal.interfaces.component import FromRun, StreamInfo
from polymodal.plugins.registry import Registry

polymodal_interface = 1
QUEUE, GUESSES = 6, 4


class Remembering(Phased):
    """Tell a sample's key from queued ones, and guess evenly: seldom guesses weigh more."""

    def __init__(self, info: FromRun[Mapping[str, StreamInfo]], *, stream: str):
        super().__init__()
        self.stream, width = stream, info[stream].width
        self.head = nn.Linear(width, GUESSES)
        self.rival = nn.Linear(width, GUESSES)
        self.register_buffer("queue", torch.zeros(QUEUE, width))
        self.register_buffer("counts", torch.ones(GUESSES))

    def needs(self):
        return {self.stream: Need()}

    def attach(self, model):
        self.teacher = Teacher(model.encoder(self.stream))

    def phases(self):
        return {"rival": Phase(list(self.rival.parameters()), updates=2, learning_rate=0.01)}

    def rows(self, step):
        return torch.tensor(step.rows_with(self.stream), dtype=torch.int64)

    def phase_loss(self, step, phase):
        rows = self.rows(step)
        with torch.no_grad():
            vectors = step.encode(self.stream).pooled_rows()[rows]
            guess = self.head(vectors).argmax(dim=1)
        return Loss(F.cross_entropy(self.rival(vectors), guess, reduction="sum"), len(rows))

    def forward(self, step):
        rows = self.rows(step)
        vectors = step.encode(self.stream).pooled_rows()[rows]
        keys = self.teacher(step.tokens(self.stream)).pooled_rows()[rows]
        scores = torch.cat([(vectors * keys).sum(1, keepdim=True), vectors @ self.queue.T], dim=1)
        found = F.cross_entropy(scores, torch.zeros_like(rows), reduction="sum")
        logits = self.head(vectors) - self.rival(vectors)
        rare = (self.counts.sum() / self.counts).log()
        return Loss(found - (logits.softmax(dim=1) * rare).sum(), len(rows))

    def after_update(self, step):
        with torch.no_grad():
            rows = self.rows(step)
            keys = self.teacher(step.tokens(self.stream)).pooled_rows()[rows]
            self.queue.copy_(torch.cat([keys, self.queue])[:QUEUE])
            guesses = self.head(keys).argmax(dim=1)
            self.counts.add_(torch.bincount(guesses, minlength=GUESSES))
        self.teacher.follow(step.encoder(self.stream), 0.9)


@hookimpl
def polymodal_register(registry: Registry) -> None:
    registry.objective("objective", f"{__name__}:Remembering")
