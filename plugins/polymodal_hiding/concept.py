"""Tokens that carry a concept, and others in equal parts (CausaLM)."""

import torch

from polymodal import Candidates, FieldName, Hidden, Hiding, Need, check_ratio, class_name
from polymodal_hiding.balance import Amount, choose_balanced
from polymodal_hiding.labels import word_numbers


class Concept(Hiding):
    """Hide tokens whose word carries a concept, and others in turn (CausaLM, Feder et al., 2021).

    Args:
        labels: field with a label for each word, a tag say.
        concept: the labels that tell the concept.
        amount: "double" hides twice as many tokens as carry it, less where that is most of the
            text; "ratio" the ratio, at most double.
        ratio: share of each segment's tokens, of the second rule.
        cover: copy a text until every token with the concept is hidden in one of its copies.

    Raises:
        ValueError: no concept, or a ratio out of range.
    """

    def __init__(
        self,
        labels: FieldName,
        concept: list[str],
        *,
        amount: Amount = "double",
        ratio: float = 0.15,
        cover: bool = False,
    ):
        super().__init__()
        if not concept:
            raise ValueError("concept must name one label or more")
        self.labels = labels
        self.concept = frozenset(concept)
        self.amount: Amount = amount
        self.ratio = check_ratio(ratio)
        self.cover = cover

    def need(self) -> Need:
        """Return that the stream must have words."""
        return Need(channels=("word",))

    def fields(self) -> tuple[str, ...]:
        """Return the field with a label for each word."""
        return (self.labels,)

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden, of copies where there are some; waits for the device."""
        marks = [
            None if found is None else [class_name(label) in self.concept for label in found]
            for found in among.labels(self.labels)
        ]
        concept = word_numbers(among.tokens, among.spec, marks, field=self.labels) == 1
        copies, choice, origin = choose_balanced(
            among.tokens,
            concept,
            torch.ones_like(concept) if among.allowed is None else among.allowed,
            among.noise("choice"),
            amount=self.amount,
            ratio=self.ratio,
            cover=self.cover,
        )
        return Hidden(copies, choice, None, origin)
