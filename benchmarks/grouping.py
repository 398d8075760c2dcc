"""What batches of like lengths save: grouped by length against as they come, same samples.

    python -m benchmarks.grouping

Packed batches have no padding, so little is left to save: attention of segments of unlike lengths
is padded or split into calls on a CPU, and the steps of a token budget vary. Two encoders show both
sides: packed, and one that needs rectangles, as a tower of another library does. Lengths are
log-normal, as captions' are; a round is a window of batches, forward and backward.
"""

import numpy as np
import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal import Layout, Transformer
from polymodal.data.grouping import Grouped
from polymodal.data.sampling import Mixture

BATCH, WINDOW, WIDTH, DEPTH, HEADS = 16, 20, 128, 4, 4


def layouts(lengths: np.ndarray, *, grouped: bool) -> list[Layout]:
    """Return the layouts of a window's batches."""
    mixture = Mixture({"texts": len(lengths)}, weights={}, seed=0)
    sequence = Grouped(mixture, [lengths], batch_size=BATCH, window=WINDOW) if grouped else mixture
    places = range(0, BATCH * WINDOW, BATCH)
    return [Layout.of(lengths[sequence.draw(p, p + BATCH).index].tolist()) for p in places]


def padded(model: Transformer, rows: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Run the model over one rectangle: every segment as long as the longest."""
    whole = Layout.of([layout.longest] * layout.segments)
    return layout.unpad(whole.pad(model(layout.pad(rows).flatten(0, 1), whole).vectors))


def main() -> list[Ratio]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(3.2, 0.8, BATCH * WINDOW), 4, 256).astype(int)
    model = Transformer(width=WIDTH, depth=DEPTH, heads=HEADS)
    batches = {
        grouped: [(x, torch.randn(x.tokens, WIDTH)) for x in layouts(lengths, grouped=grouped)]
        for grouped in (True, False)
    }

    def packed(grouped: bool) -> None:
        for layout, rows in batches[grouped]:
            model(rows, Layout.of(layout.lengths)).vectors.sum().backward()

    def rectangles(grouped: bool) -> None:
        for layout, rows in batches[grouped]:
            padded(model, rows, layout).sum().backward()

    def cells(grouped: bool) -> int:
        return sum(layout.segments * layout.longest for layout, _ in batches[grouped])

    print(f"cells of padded batches, grouped / as they come: {cells(True) / cells(False):.3f}")
    found = [
        compare("grouped / as they come, packed", lambda: packed(True), lambda: packed(False),
                rounds=11),
        compare("grouped / as they come, padded", lambda: rectangles(True),
                lambda: rectangles(False), rounds=11),
    ]  # fmt: skip
    write("grouping", found)
    return found


if __name__ == "__main__":
    main()
