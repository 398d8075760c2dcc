"""Clustering: whether groups found in the vectors without labels are the classes."""

from collections.abc import Mapping

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from polymodal import (
    DataError,
    Each,
    Evaluation,
    FieldName,
    Need,
    ObjectiveName,
    Probe,
    Score,
    SourceName,
    Split,
    StreamName,
)
from polymodal_evaluation.rows import SPLITS, class_names, labelled


class Clustering(Evaluation):
    """Groups the vectors by k-means and compares the groups with a label.

    Scores are normalised mutual information (`nmi`, the arithmetic mean of both entropies below
    it, which is scikit-learn's v-measure) and the adjusted Rand index (`ari`). Both are 1 for equal
    partitions, whatever the groups' numbers. Chance is the same groups shuffled over the rows; rows
    whose label is missing are left out.

    Args:
        stream: whose vectors.
        source: where rows come from.
        label: field that holds the label.
        clusters: how many groups; as many as there are labels unless given.
        objective: its projection of the vectors, instead of the encoder's own.
        split: rows of one split; all unless given.
        each: what is grouped: samples, or their tokens, whose label is an entry of the field.
        restarts: of k-means; the best one counts.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(
        self,
        stream: StreamName,
        source: SourceName,
        label: FieldName,
        *,
        clusters: int | None = None,
        objective: ObjectiveName | None = None,
        split: Split | None = None,
        each: Each = "sample",
        restarts: int = 10,
    ):
        if restarts < 1 or (clusters is not None and clusters < 1):
            raise ValueError(
                f"clusters and restarts must be at least 1, got {clusters} and {restarts}"
            )
        self.stream = stream
        self.source = source
        self.label = label
        self.clusters = clusters
        self.objective = objective
        self.split: Split | None = split
        self.each: Each = each
        self.restarts = restarts

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {self.stream: Need()}

    def run(self, probe: Probe) -> list[Score]:
        """Return both scores.

        Raises:
            DataError: no rows, or fewer rows than groups.
        """
        rows = labelled(
            probe,
            self.stream,
            source=self.source,
            label=self.label,
            splits=SPLITS if self.split is None else [self.split],
            objective=self.objective,
            each=self.each,
        )
        truth = class_names(rows.values, label=self.label)
        clusters = self.clusters or len(np.unique(truth))
        if len(truth) < clusters:
            raise DataError(f"{len(truth)} rows can't be cut into {clusters} clusters")
        seed = probe.seed % 2**32
        found = KMeans(clusters, n_init=self.restarts, random_state=seed).fit_predict(rows.vectors)
        shuffled = np.random.default_rng(seed).permutation(found)
        return [
            Score(
                name,
                float(score(truth, found)),
                float(score(truth, shuffled)),
                samples=len(truth),
            )
            for name, score in (
                ("nmi", normalized_mutual_info_score),
                ("ari", adjusted_rand_score),
            )
        ]
