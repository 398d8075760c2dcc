"""Written texts: what an objective writes for each sample, against the sample's own text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from sacrebleu.metrics import BLEU

from polymodal import Evaluation, FieldName, Need, ObjectiveName, Probe, Score, SourceName, Split
from polymodal_evaluation.predicted import predicted


class Texts(Evaluation):
    """Scores the texts that an objective writes: share written exactly, and corpus BLEU (0 to 100).

    Blanks are compared as one. BLEU is sacrebleu's (Papineni et al., 2002; Post, 2018), of up to
    four words in a row, or as many as the longest true text has. Chance is what the commonest text
    of the split would score, written for every sample.

    Args:
        objective: the name of one under `objectives` that writes texts.
        source: where samples come from.
        reference: field that holds the true text.
        split: which rows.
        tokenize: sacrebleu's: "13a" for natural language, "none" for text cut at blanks already.
        lower_case: compare without case.
    """

    def __init__(
        self,
        objective: ObjectiveName,
        source: SourceName,
        reference: FieldName,
        *,
        split: Split = "validation",
        tokenize: Literal["13a", "none", "intl", "char"] = "13a",
        lower_case: bool = False,
    ):
        self.objective = objective
        self.source = source
        self.reference = reference
        self.split: Split = split
        self.tokenize = tokenize
        self.lower_case = lower_case

    def needs(self) -> Mapping[str, Need]:
        """Return nothing: the objective says what it needs."""
        return {}

    def run(self, probe: Probe) -> list[Score]:
        """Return exact match and BLEU.

        Raises:
            DataError: nothing to score in the split, or an objective that writes nothing.
        """
        values, truth = predicted(
            probe, self.objective, source=self.source, split=self.split, field=self.reference
        )
        written, true = ([self._plain(text) for text in each] for each in (values, truth))
        ((commonest, _),) = Counter(sorted(true)).most_common(1)
        scores, chance = (self._figures(true, each) for each in (written, [commonest] * len(true)))
        return [
            Score(metric, scores[metric], chance=chance[metric], samples=len(true))
            for metric in scores
        ]

    def _plain(self, text: object) -> str:
        plain = " ".join(str(text).split())
        return plain.lower() if self.lower_case else plain

    def _figures(self, truth: Sequence[str], written: Sequence[str]) -> dict[str, float]:
        same = sum(one == other for one, other in zip(written, truth, strict=True))
        longest = max(len(text.split()) for text in truth)
        bleu = BLEU(tokenize=self.tokenize, max_ngram_order=min(4, longest), force=True)
        score = bleu.corpus_score(list(written), [list(truth)]).score
        return {"exact_match": same / len(truth), "bleu": float(score)}
