import torch

from polymodal import Loss, Need, Objective, View
from polymodal.packed.batch import Batch
from polymodal.testing import toy_batch, toy_model


class Twice(Objective):
    """Reads a stream and a view of it."""

    def needs(self):
        return {"patches": Need()}

    def views(self):
        return {"again": View("patches")}

    def forward(self, step):
        return Loss(step.encode("patches").pooled_rows().sum(), 1)


class Doubling:
    def finish(self, tokens):
        return tokens.with_rows(2 * tokens.rows)


def test_views_are_finished_as_their_stream_is():
    model = toy_model(Twice(), ["patches", "words"])
    batch = toy_batch(["patches", "words"])
    streams = {**batch.streams, "checked/again": batch.streams["patches"]}
    found = model.finish(Batch(streams, batch.samples, batch.keys), {"patches": Doubling()})
    for name in ("patches", "checked/again"):
        assert torch.equal(found.streams[name].rows, 2 * streams[name].rows), name
    assert found.streams["words"] is streams["words"]
