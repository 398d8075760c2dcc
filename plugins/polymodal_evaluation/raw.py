"""Raw values as vectors: the control that a trained encoder has to beat."""

from polymodal import NO_TAPS, Encoded, Encoder, FromRun, Taps, Tokens, TokenSpec


class Raw(Encoder):
    """Gives a token's values as its vector and their mean as the pooled one; nothing is learned.

    With a tokenizer that makes one token of a sample (patches as large as the image) the pooled
    vector is the raw input, so that evaluations score what can be read off it without a model.

    Args:
        spec: what the tokens are like.

    Raises:
        ValueError: tokens that have ids.
    """

    def __init__(self, spec: FromRun[TokenSpec]):
        super().__init__()
        if not spec.features:
            raise ValueError("raw vectors need tokens with values, but the stream's have ids")
        self.width = spec.features

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the values."""
        return Encoded.mean_pooled(tokens.layout, tokens.rows)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the values.

        Raises:
            ValueError: any tap: there are no blocks.
        """
        if taps != NO_TAPS:
            raise ValueError("raw values have no blocks to tap")
        return encoded
