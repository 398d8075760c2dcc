"""Ids that the model found hard to tell from the true ones (C-RTS)."""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal import (
    Candidates,
    Corrupted,
    FilePath,
    Hidden,
    Need,
    Replacing,
    StreamInfo,
    Tokens,
    sum_over_ranks,
)


def row_chances(
    counts: Int[Tensor, "cluster cluster"], *, beta: float
) -> Float[Tensor, "cluster cluster"]:
    """Return the chance of each cluster to replace one of a row's cluster.

    softmax(beta * (x - min) / (max - min)) of each row of counts, a flat row's being uniform
    (Di Liello, 2023, cluster random token substitution; its code takes minima of columns).
    """
    counts = counts.double()
    low, high = counts.amin(dim=1, keepdim=True), counts.amax(dim=1, keepdim=True)
    spread = torch.where(high > low, high - low, 1)
    return (beta * (counts - low) / spread).softmax(dim=1).float()


class Clusters(Replacing):
    """Replace ids by others, of clusters that were hard to tell from the true one's so far.

    Cluster random token substitution (Di Liello, 2023).

    Counts by cluster of the true and of the false id start at 1, grow by 1 where the model took a
    fake for real, and fall by 1 where it did not. For predictions of `targets.replaced`. Special
    ids are neither put in nor counted.

    Args:
        clusters: how many; ids of like number share one, as learned vocabularies number ids by how
            frequent they are.
        table: an .npy file with the cluster of every id instead, int64 [vocabulary].
        beta: how much harder clusters are preferred; 0: not at all.

    Raises:
        ValueError: fewer than two clusters, more than there are ids, or a file of another size.
    """

    cluster: Tensor
    members: Tensor
    starts: Tensor
    sizes: Tensor
    counts: Tensor
    noted: Tensor

    def __init__(self, clusters: int = 100, *, table: FilePath | None = None, beta: float = 2.0):
        super().__init__()
        if clusters < 2:
            raise ValueError(f"clusters must be 2 or more, got {clusters}")
        self.clusters = clusters
        self.table = table
        self.beta = beta

    def need(self) -> Need:
        """Return that the stream must have ids."""
        return Need(ids=True)

    def bind(self, info: StreamInfo) -> None:
        """Deal the ids out to clusters."""
        special = set(info.spec.special.values())
        ordinary = [i for i in range(info.spec.vocabulary) if i not in special]
        if self.clusters > len(ordinary):
            raise ValueError(
                f"clusters must be at most the {len(ordinary)} ids that are not special, "
                f"got {self.clusters}"
            )
        cluster = torch.zeros(info.spec.vocabulary, dtype=torch.int64)
        place = torch.arange(len(ordinary)) * self.clusters // len(ordinary)
        cluster[torch.tensor(ordinary)] = place
        if self.table is not None:
            cluster = _read(self.table, info.spec.vocabulary, self.clusters)
        ids = torch.tensor(ordinary)
        order = cluster[ids].argsort(stable=True)
        sizes = torch.bincount(cluster[ids], minlength=self.clusters)
        self.register_buffer("cluster", cluster)
        self.register_buffer("members", ids[order], persistent=False)
        self.register_buffer("starts", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        square = torch.ones(self.clusters, self.clusters, dtype=torch.int64)
        self.register_buffer("counts", square)
        self.register_buffer("noted", torch.zeros_like(square), persistent=False)

    def replace(self, hidden: Hidden, among: Candidates) -> Tokens:
        """Return the tokens with other ids."""
        tokens = hidden.tokens
        assert tokens.ids is not None
        rows = hidden.rows if hidden.counted is None else hidden.rows[hidden.counted]
        drawn, draw = hidden.drawn(among.noise("dice")), hidden.drawn(among.noise("draw"))
        if hidden.counted is not None:
            drawn, draw = drawn[hidden.counted], draw[hidden.counted]
        chances = row_chances(self.counts, beta=self.beta) * (self.sizes > 0)
        edges = chances.cumsum(dim=1)
        edges = edges / edges[:, -1:]  # the last is 1, which no draw reaches
        own = edges[self.cluster[tokens.ids[rows]]]  # row cluster
        chosen = (own <= drawn[:, None]).sum(dim=1)  # never one without ids: it adds nothing
        size = self.sizes[chosen]
        place = torch.minimum((draw * size).long(), size - 1)
        new = self.members[self.starts[chosen] + place]
        return tokens.with_rows(tokens.ids.index_copy(0, rows, new))

    def learn(self, corrupted: Corrupted, predicted: Tensor, rows: Int[Tensor, " scored"]) -> None:
        """Note which fakes were taken for real; in training alone."""
        before, after = corrupted.hidden.tokens.ids, corrupted.tokens.ids
        assert before is not None and after is not None
        if predicted.shape[1] != 1:
            raise ValueError(
                "replacing.clusters learns from one number a token, fake or real: use it with "
                "targets: targets.replaced"
            )
        if not (self.training and torch.is_grad_enabled()):
            return
        true, fake = before[rows], after[rows]
        wrong = predicted[:, 0] <= 0
        change = torch.where(wrong, 1, -1) * (true != fake)
        flat = self.cluster[true] * self.clusters + self.cluster[fake]
        self.noted.view(-1).index_add_(0, flat, change)

    def after_update(self) -> None:
        """Count what was noted on all ranks since the last update."""
        self.counts += sum_over_ranks(self.noted.clone())
        self.noted.zero_()


def _read(file: str, vocabulary: int, clusters: int) -> Int[Tensor, " vocabulary"]:
    import numpy as np

    try:
        found = np.load(Path(file), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"table: {file} can't be read: {' '.join(str(error).split())}") from error
    fits = found.shape == (vocabulary,) and np.issubdtype(found.dtype, np.integer)
    if not fits or found.min() < 0 or found.max() >= clusters:
        raise ValueError(
            f"table: {file} must hold a cluster below {clusters} for each of {vocabulary} ids"
        )
    return torch.from_numpy(found.astype(np.int64))
