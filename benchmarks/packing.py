"""Packed against padded: six modalities' lengths through the same transformer.

    python -m benchmarks.packing

First: forward and backward over packed tokens. Second: the same weights over one padded rectangle
a modality, with a key mask, as torch's own layers do it. Both do the same useful work, so the
ratio of times is the inverse ratio of useful tokens a second.
"""

import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal import Layout, Transformer

# mean and spread of tokens a sample: images, clips, sounds, graphs, code, text
MODALITIES = {
    "image": (64, 0), "video": (196, 60), "audio": (100, 45), "graph": (18, 8),
    "code": (110, 60), "text": (14, 6),
}  # fmt: skip
SAMPLES, WIDTH, DEPTH, HEADS = 16, 128, 4, 4


def lengths(mean: int, spread: int, generator: torch.Generator) -> list[int]:
    drawn = mean + spread * torch.randn(SAMPLES, generator=generator)
    return [max(2, int(x)) for x in drawn]


def main() -> list[Ratio]:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    packed = Transformer(width=WIDTH, depth=DEPTH, heads=HEADS)
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    padded = torch.nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
    layouts = {name: Layout.of(lengths(*shape, generator)) for name, shape in MODALITIES.items()}
    rows = {name: torch.randn(layout.tokens, WIDTH) for name, layout in layouts.items()}

    def run_packed() -> None:
        total = sum(packed(rows[name], layout).vectors.sum() for name, layout in layouts.items())
        total.backward()

    def run_padded() -> None:
        total = torch.zeros(())
        for name, layout in layouts.items():
            mask = ~layout.filled
            out = padded(layout.pad(rows[name]), src_key_padding_mask=mask if mask.any() else None)
            total = total + layout.unpad(out).sum()
        total.backward()

    found = [compare("packed / padded, six modalities", run_packed, run_padded)]
    write("packing", found)
    return found


if __name__ == "__main__":
    main()
