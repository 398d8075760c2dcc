"""Tokenizers against the usual ways of making the same tokens, which must be equal.

    python -m benchmarks.tokenizing

k-mers by a loop with a dictionary, graphs by torch-geometric's Batch, mel spectrograms and byte
pairs by a loop over librosa and tokenizers, patches by torch's unfold. CPU time.
"""

import time
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal import installed

CPU = time.process_time
RATE, HOP = 16_000, 160


def kmers() -> Ratio:
    generator = np.random.default_rng(0)
    sequences = ["".join(generator.choice(list("ACGT"), 512)) for _ in range(64)]
    tokenizer = installed().find("genome.kmers", "tokenizer").load()(k=6)
    first = tokenizer.spec.vocabulary - 4**6  # below stand special tokens
    words = {"".join(word): first + n for n, word in enumerate(product("ACGT", repeat=6))}

    def loop() -> list[torch.Tensor]:
        return [
            torch.tensor([words[sequence[i : i + 6]] for i in range(len(sequence) - 5)])
            for sequence in sequences
        ]

    assert torch.equal(tokenizer.encode(sequences).ids, torch.cat(loop()))
    name = "6-mers: dictionary loop / ours"
    return compare(name, loop, lambda: tokenizer.encode(sequences), repeat=10, clock=CPU)


def graphs() -> Ratio:
    from torch_geometric.data import Batch

    from polymodal_graph import to_pyg

    source = installed().find("demo.graphs", "source").load()(samples=256)
    reader = installed().find("graph.graph", "reader").load()()
    raws = [reader(source.row(index)["graph"]) for index in range(256)]
    tokenizer = installed().find("graph.nodes", "tokenizer").load()(vocabulary=6, edge_kinds=3)
    data = [to_pyg(raw) for raw in raws]
    return compare(
        "256 graphs: torch-geometric Batch / ours",
        lambda: Batch.from_data_list(data),
        lambda: tokenizer.encode(raws),
        repeat=10,
        clock=CPU,
    )


def mels(clips: int, seconds: int) -> Ratio:
    import librosa

    from polymodal_audio import Waveform

    generator = np.random.default_rng(0)
    sounds = generator.normal(0, 0.1, (clips, seconds * RATE)).astype(np.float32)
    options = {"n_fft": 1024, "n_mels": 128}
    tokenizer = (
        installed()
        .find("audio.mel", "tokenizer")
        .load()(rate=RATE, hop=HOP, patch=(16, 128), top_db=None, mean=0.0, std=1.0, **options)
    )
    raws = [Waveform(sound, RATE) for sound in sounds]

    def loop() -> list[np.ndarray]:
        made = {"sr": RATE, "hop_length": HOP, "pad_mode": "constant", **options}
        return [librosa.feature.melspectrogram(y=sound, **made) for sound in sounds]

    levels = tokenizer.encode(raws).values.reshape(clips, -1, 128)
    for level, power in zip(levels, loop(), strict=True):
        wanted = librosa.power_to_db(power, top_db=None).T  # a frame more: librosa's last
        assert np.allclose(level[: seconds * RATE // HOP], wanted[:-1], atol=1e-3)
    name = f"mel of {clips} clips of {seconds} s: librosa's power alone / our patches in dB"
    return compare(name, loop, lambda: tokenizer.encode(raws), clock=CPU)


def byte_pairs() -> Ratio:
    from polymodal_text import learn_byte_pairs

    root = Path(__file__).parents[1]
    pages = [root / "README.md", *sorted(root.glob("docs/*.md"))]
    texts = [text for page in pages for text in page.read_text().split("\n\n") if text.strip()]
    tokenizer = (
        installed()
        .find("text.bpe", "tokenizer")
        .load()(vocabulary_size=2000, mark_ends=False, max_tokens=10**4)
    )
    tokenizer.fit(texts)
    library = learn_byte_pairs(texts, 2000)

    def loop() -> list[list[int]]:
        return [library.encode(text).ids for text in texts]

    assert tokenizer.encode(texts).ids.tolist() == [number for ids in loop() for number in ids]
    name = f"byte pairs of {len(texts)} paragraphs: a loop over the library / ours"
    return compare(name, loop, lambda: tokenizer.encode(texts), clock=CPU)


def patches() -> Ratio:
    generator = np.random.default_rng(0)
    images = list(generator.integers(0, 256, (32, 224, 224, 3), dtype=np.uint8))
    tokenizer = installed().find("vision.patches", "tokenizer").load()(size=224, patch=16)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ([0.5] * 3, [0.5] * 3))

    def unfold() -> torch.Tensor:
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)
        cut = torch.nn.functional.unfold(pixels.sub_(mean).div_(std), 16, stride=16)
        return cut.transpose(1, 2).contiguous()  # image, patch, (colour, y, x)

    ours = tokenizer.encode(images).values.reshape(32, 196, 16, 16, 3)
    assert torch.allclose(ours.permute(0, 1, 4, 2, 3).flatten(2), unfold(), atol=1e-5)
    name = "patches of 32 images of 224: torch's unfold / ours"
    return compare(name, unfold, lambda: tokenizer.encode(images), clock=CPU)


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    found = [kmers(), graphs(), mels(64, 1), mels(8, 10), byte_pairs(), patches()]
    write("tokenizing", found)
    return found


if __name__ == "__main__":
    main()
