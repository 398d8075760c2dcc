"""Whole words."""

from polymodal import Candidates, Hidden, Hiding, Need, check_ratio
from polymodal_hiding.units import choose_units


class WholeWords(Hiding):
    """Hide whole words in random order until about a share of the tokens that may be is hidden.

    Words are those of the channel "word". The word at the boundary is hidden if at least half of
    it still fits, and the first one always.

    Args:
        ratio: share of each segment's tokens that may be hidden.
        at_least: hide so many tokens of every segment that has them.

    Raises:
        ValueError: a ratio that does not lie between 0 and 1.
    """

    def __init__(self, ratio: float = 0.15, *, at_least: int = 1):
        super().__init__()
        self.ratio = check_ratio(ratio)
        self.at_least = at_least

    def need(self) -> Need:
        """Return that the stream must have words."""
        return Need(channels=("word",))

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden; waits for the device."""
        layout = among.tokens.layout
        counts = among.counts(self.ratio, at_least=self.at_least)
        word = layout.channels.get("word", layout.segment)  # a batch without tokens may lack it
        choice = choose_units(among.noise("choice"), word, layout, counts, allowed=among.allowed)
        return Hidden(among.tokens, choice)
