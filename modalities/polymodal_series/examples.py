"""A small case of each component, for the conformance kit."""

import numpy as np

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return short series of several lengths, and a tiny encoder."""
    from polymodal_series.reader import SeriesReader

    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(size).cumsum() for size in (40, 16, 23, 5)]
    values = [{"values": each, "positions": 300 + 2.5 * np.arange(len(each))} for each in arrays]
    series = [SeriesReader()(value) for value in values]
    cut = {"patch": 8, "origin": 300.0, "scale": 20.0}
    return [
        Example("series.samples", "reader", values=[*values, arrays[0], arrays[1][:, None]]),
        Example("series.patches", "tokenizer", cut, raws=series),
        Example("series.patches", "tokenizer", {**cut, "standardize": "series"}, raws=series),
        Example(
            "series.transformer", "encoder", {"width": 32, "depth": 1, "heads": 2},
            tokenizer={"use": "series.patches", **cut}, raws=series,
        ),
    ]  # fmt: skip
