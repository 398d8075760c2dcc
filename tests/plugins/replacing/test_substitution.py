"""Random token substitution and swapped language modelling against what the thesis works out."""

import math
from dataclasses import replace

import pytest
import torch

from polymodal import Layout, Tokens
from polymodal_replacing import Clusters, row_chances


def texts(toys, count, length, seed=0):
    ids = torch.randint(3, 12, (count, length), generator=torch.Generator().manual_seed(seed))
    return toys.id_tokens([[toys.BEGIN, *row, toys.END] for row in ids.tolist()])


def clusters_of(toys, **options):
    part = Clusters(**{"clusters": 3, **options})
    part.bind(toys.info(text=8)["text"].__class__(toys.IDS, 8))
    return part


@pytest.mark.parametrize(
    ("counts", "beta", "chances"),
    [
        ([5, 2, -3], 2.0, [0.622006, 0.293815, 0.084179]),
        ([1, 1, 1], 2.0, [1 / 3, 1 / 3, 1 / 3]),
        ([10, 0, 0], 2.0, [0.786986, 0.106507, 0.106507]),
        ([5, 2, -3], 0.0, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_chances_of_clusters_are_those_of_the_thesis(counts, beta, chances):
    found = row_chances(torch.tensor([counts, [7, -7, 0]]), beta=beta)  # by row, not by column
    assert found[0].tolist() == pytest.approx(chances, abs=1e-6)


def test_fifteen_in_a_hundred_ids_are_fakes_and_guessing_costs_what_chance_says(toys):
    model = toys.model(
        {"text": toys.IDS},
        objective=toys.named("masking.detection", stream="text", hide={"use": "hiding.each"}),
    )
    tokens = texts(toys, 500, 200)
    step = toys.step(model, toys.batch(text=tokens))
    objective = model.objective("objective")
    masked = step.shared(objective)
    assert len(masked.hidden.rows) / 100_000 == pytest.approx(0.15, abs=0.003)
    special = tokens.ids <= toys.END
    assert torch.equal(masked.tokens.ids[special], tokens.ids[special])
    assert not special[masked.hidden.rows].any()
    line = objective.head.linear
    with torch.no_grad():
        line.weight.zero_()
        line.bias.zero_()
    found = objective(step)
    assert int(found.count) == 100_000
    assert found.total.item() / 100_000 == pytest.approx(math.log(2), abs=1e-6)
    with torch.no_grad():
        line.bias.fill_(math.log(0.15 / 0.85))
    share = len(masked.hidden.rows) / 100_000
    entropy = -(share * math.log(0.15) + (1 - share) * math.log(0.85))
    assert objective(step).total.item() / 100_000 == pytest.approx(entropy, abs=1e-4)
    assert entropy == pytest.approx(0.422709, abs=0.006)


def test_swapped_language_modelling_shows_no_mask_and_predicts_what_was_there(toys):
    swapped = {"use": "replacing.bert", "mask": 0.0, "random": 1.0}
    model = toys.model(
        {"text": toys.IDS}, objective=toys.named("masking.tokens", stream="text", replace=swapped)
    )
    tokens = texts(toys, 400, 20)
    step = toys.step(model, toys.batch(text=tokens))
    objective = model.objective("objective")
    masked = step.shared(objective)
    rows = masked.hidden.rows
    assert not (masked.tokens.ids == toys.MASK).any()
    same = (masked.tokens.ids[rows] == tokens.ids[rows]).float().mean().item()
    assert same == pytest.approx(1 / 9, abs=0.03)  # drawn from nine, the true one among them
    scores = objective.head.predict(masked.encoded.vectors[rows], step.encoder("text").unembed)
    expected = -scores.double().log_softmax(dim=1)[range(len(rows)), tokens.ids[rows]].sum()
    assert objective(step).total.item() == pytest.approx(expected.item(), rel=1e-5)


def learnt(part, true, fake, scores):
    """Let clusters follow an update in which these ids stood for those, scored so."""
    from polymodal import Choice, Corrupted, Hidden

    layout = Layout.of([len(true)])
    tokens = Tokens(layout, ids=torch.tensor(true))
    choice = Choice.of_mask(torch.ones(len(true), dtype=torch.bool), layout)
    seen = Corrupted(None, Hidden(tokens, choice), tokens.with_rows(torch.tensor(fake)))
    part.train().learn(seen, torch.tensor(scores)[:, None], torch.arange(len(true)))
    part.after_update()


def test_each_wrong_answer_counts_one_and_each_right_one_takes_one(toys):
    part = clusters_of(toys)  # ids 3 4 5 | 6 7 8 | 9 10 11
    assert part.cluster[3:].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # Two fakes of cluster 1 for cluster 0 taken for real, one of 2 for 1 found, one id kept.
    learnt(part, [3, 4, 6, 9], [7, 8, 11, 9], [-1.0, -2.0, 3.0, -1.0])
    assert part.counts.tolist() == [[1, 3, 1], [1, 1, 0], [1, 1, 1]]
    assert not part.noted.any()
    with torch.no_grad():
        learnt(part, [3], [7], [-1.0])  # evaluation teaches nothing
    assert part.counts[0, 1] == 3
    with pytest.raises(ValueError, match="use it with targets: targets.replaced"):
        part.learn.__func__(part, *_given(), torch.zeros(1, 12), torch.tensor([0]))


def _given():
    from polymodal import Choice, Corrupted, Hidden

    tokens = Tokens(Layout.of([1]), ids=torch.tensor([3]))
    choice = Choice.of_mask(torch.ones(1, dtype=torch.bool), tokens.layout)
    return (Corrupted(None, Hidden(tokens, choice), tokens),)


def drawn(toys, part, count=400):
    model = toys.model({"text": toys.IDS}, objective=toys.named("masking.tokens", stream="text"))
    tokens = texts(toys, count, 20)
    tokens = tokens.with_rows(torch.where(tokens.ids > toys.END, 3, tokens.ids))
    step = toys.step(model, toys.batch(text=tokens))
    objective = model.objective("objective")
    among = objective._candidates(step, None)
    found = objective.hide.choose(among)
    ids = part.replace(found, among).ids[found.rows]
    return torch.bincount(ids, minlength=12).double() / len(ids)


def test_clusters_are_drawn_by_their_chances_and_ids_alike_within(toys):
    part = clusters_of(toys)
    part.counts[0] = torch.tensor([5, 2, -3])
    share = drawn(toys, part).reshape(4, 3)
    assert share[0].sum() == 0  # no special ids
    assert share[1:].sum(dim=1).tolist() == pytest.approx([0.622006, 0.293815, 0.084179], abs=0.04)
    assert share[1].tolist() == pytest.approx([0.622006 / 3] * 3, abs=0.04)
    even = drawn(toys, clusters_of(toys, beta=0.0))
    assert even[3:].tolist() == pytest.approx([1 / 9] * 9, abs=0.03)  # as random substitution


def test_clusters_without_ids_are_never_drawn(toys, tmp_path):
    import numpy as np

    table = np.array([0, 0, 0, *[1] * 5, *[2] * 4])  # 0 has special ids alone, 3 nothing
    np.save(tmp_path / "table.npy", table)
    part = clusters_of(toys, clusters=4, table=str(tmp_path / "table.npy"))
    assert part.sizes.tolist() == [0, 5, 4, 0]

    model = toys.model({"text": toys.IDS}, objective=toys.named("masking.tokens", stream="text"))
    step = toys.step(model, toys.batch(text=texts(toys, 20, 20)))
    objective = model.objective("objective")
    among = objective._candidates(step, None)
    found = objective.hide.choose(among)
    for value in (0.0, 1 - 2**-24):
        edge = replace(among, noise=lambda name, v=value: torch.full((440,), v))
        ids = part.replace(found, edge).ids[found.rows]
        assert bool((ids > toys.END).all())
        assert set(part.cluster[ids].tolist()) == {1 if value == 0 else 2}
