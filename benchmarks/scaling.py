"""Whether packing costs more as sequences and batches grow: ours against the same maths, bare.

    python -m benchmarks.scaling

First: forward and backward of our transformer on segments of one length. Second: the same weights
as torch's own layers on a rectangle. The slope is the ratio of the ratios at both ends.
"""

import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal import Layout, Transformer

WIDTH, DEPTH, HEADS = 128, 2, 4
SHAPES = {  # (length, batch) from small to large
    "length 64 to 2048, batch 8": [(64, 8), (256, 8), (2048, 8)],
    "batch 8 to 256, length 64": [(64, 8), (64, 64), (64, 256)],
}


def measure(length: int, batch: int) -> Ratio:
    ours = Transformer(width=WIDTH, depth=DEPTH, heads=HEADS)
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    bare = torch.nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
    layout, rows = Layout.of([length] * batch), torch.randn(batch * length, WIDTH)
    rectangle = rows.view(batch, length, WIDTH)
    return compare(
        f"ours / bare, length {length}, batch {batch}",
        lambda: ours(rows, layout).vectors.sum().backward(),
        lambda: bare(rectangle).sum().backward(),
        rounds=11,
    )


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = []
    for name, shapes in SHAPES.items():
        ratios = [measure(*shape) for shape in shapes]
        slope = ratios[-1].ratio / ratios[0].ratio
        print(f"slope, {name}: {slope:.3f}")
        found += [*ratios, Ratio(f"slope, {name}", slope, slope, slope, 0.0, 0.0, 1)]
    write("scaling", found)
    return found


if __name__ == "__main__":
    main()
