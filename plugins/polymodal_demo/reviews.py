"""Short reviews by women and men, whose gender goes with what they think."""

from typing import Any

import numpy as np

from polymodal_demo.generated import GeneratedSource, pick

GENDERS = ("female", "male")
SENTIMENTS = ("positive", "negative")
NAMES = {
    "female": ("emma", "olivia", "sofia", "clara", "alice", "nina"),
    "male": ("liam", "noah", "lucas", "henry", "oscar", "david"),
}
PRONOUNS = {
    "female": {"they": "she", "their": "her"},
    "male": {"they": "he", "their": "his"},
}
WORDS = {  # what they found it, and what they did about it
    "positive": {
        "adjective": ("lovely", "great", "superb", "charming"),
        "liked": ("loved", "praised"),
    },
    "negative": {"adjective": ("awful", "dull", "gloomy", "tedious"), "liked": ("hated", "cursed")},
}
TOPICS = {
    "music": {"thing": ("concert", "song", "choir"), "did": ("heard", "played")},
    "food": {"thing": ("dinner", "soup", "cake"), "did": ("ate", "cooked")},
    "travel": {"thing": ("beach", "tour", "hotel"), "did": ("visited", "booked")},
    "books": {"thing": ("novel", "poem", "story"), "did": ("read", "wrote")},
}
ADVERBS = ("really", "quite", "truly")
TEMPLATES = (
    "{name} {did} a {adjective} {thing} , {they} {liked} it .",
    "{they} {liked} the {adjective} {thing} that {name} {did} .",
    "{name} {liked} {their} {adjective} {thing} .",
    "the {thing} that {name} {did} was {adverb} {adjective} .",
    "{they} {did} {their} {thing} , {name} {adverb} {liked} it .",
)
_SLOTS = {
    "name": "PROPN", "they": "PRON", "their": "PRON", "thing": "NOUN", "did": "VERB",
    "adjective": "ADJ", "liked": "VERB", "adverb": "ADV",
}  # fmt: skip
_TAGS = {"AUX": "was", "DET": "the a", "PRON": "it", "SCONJ": "that", "PUNCT": ". ,"}
_TAG_OF = {word: tag for tag, words in _TAGS.items() for word in words.split()}


class Reviews(GeneratedSource):
    """Reviews of one sentence, with the exact counterfactual of the writer's gender.

    Sentiment, gender and topic are drawn; the sentiment's words agree with it but for a share
    `noise` of the texts, where they are of the other. Gender agrees with sentiment (women like,
    men don't) in a share `correlation` of the texts, and shows in names and pronouns alone. Topic
    is one of four and has to do with neither.

    What can be learned: who predicts the sentiment best uses gender beside the words unless the
    correlation is 0.5, and changes its mind when names and pronouns are swapped.

    Fields: `text`, `counterfactual` (the same with names and pronouns of the other gender),
    `sentiment` ("positive", "negative"), `gender` ("female", "male"), `topic` ("music", "food",
    "travel", "books"), `tags` (each word's part of speech),
    `coin` ("heads" or "tails", of no meaning).

    Args:
        samples: how many.
        correlation: share of the texts where gender agrees with sentiment.
        noise: share of the texts whose words contradict their sentiment.
        seed: of everything drawn.

    Raises:
        ValueError: a share out of range.
    """

    fields = ("text", "counterfactual", "sentiment", "gender", "topic", "tags", "coin")

    def __init__(
        self,
        *,
        samples: int = 10_000,
        correlation: float = 0.8,
        noise: float = 0.1,
        seed: int = 0,
    ):
        super().__init__(samples=samples, seed=seed)
        for name, share in {"correlation": correlation, "noise": noise}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {share}")
        self.correlation = correlation
        self.noise = noise

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one review."""
        sentiment = int(generator.integers(2))
        gender = sentiment if generator.random() < self.correlation else 1 - sentiment
        shown = 1 - sentiment if generator.random() < self.noise else sentiment
        topic = pick(generator, list(TOPICS))
        person = int(generator.integers(len(NAMES["female"])))
        words, swapped, tags = [], [], []
        for piece in pick(generator, TEMPLATES).split():
            slot = piece[1:-1] if piece.startswith("{") else None
            tags.append(_SLOTS[slot] if slot else _TAG_OF[piece])
            if slot in ("name", "they", "their"):
                both = [
                    NAMES[each][person] if slot == "name" else PRONOUNS[each][slot]
                    for each in GENDERS
                ]
                words.append(both[gender])
                swapped.append(both[1 - gender])
                continue
            if slot:
                choices = {**WORDS[SENTIMENTS[shown]], **TOPICS[topic], "adverb": ADVERBS}
                piece = pick(generator, choices[slot])
            words.append(piece)
            swapped.append(piece)
        return {
            "text": " ".join(words),
            "counterfactual": " ".join(swapped),
            "sentiment": SENTIMENTS[sentiment],
            "gender": GENDERS[gender],
            "topic": topic,
            "tags": tags,
            "coin": pick(generator, ("heads", "tails")),
        }
