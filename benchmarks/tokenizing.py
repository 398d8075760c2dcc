"""Tokenizers against the usual library, or a loop, with the same output.

    python -m benchmarks.tokenizing

Mel spectrograms by librosa, k-mers by a dictionary, byte pairs by tokenizers, graphs by
torch-geometric's Batch, patches by torch's unfold.
"""

import inspect
import json
from itertools import product

import librosa
import numpy as np
import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal.plugins import installed


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
    return compare(name, loop, lambda: tokenizer.encode(sequences), repeat=10)


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
    )


def mels() -> Ratio:
    from polymodal_audio import Waveform

    rate, frames, n_mels, n_fft, hop = 16000, 16, 64, 400, 160
    tokenizer = installed().find("audio.mel", "tokenizer").load()(
        rate=rate, n_fft=n_fft, hop=hop, n_mels=n_mels, patch=(frames, n_mels), top_db=80.0,
        seconds=2.0, mean=0.0, std=1.0,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    # Whole patches, so that no silence is added behind.
    sounds = [
        generator.normal(0, 0.1, frames * hop * generator.integers(4, 12)).astype(np.float32)
        for _ in range(64)
    ]

    def loop() -> torch.Tensor:
        levels = []
        for sound in sounds:
            power = librosa.feature.melspectrogram(
                y=sound, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=n_mels
            )
            level = librosa.power_to_db(power, top_db=80.0)[:, :-1]  # the last is half silence
            levels.append(torch.from_numpy(level.T.reshape(-1, frames * n_mels)))
        return torch.cat(levels)

    raws = [Waveform(sound, rate) for sound in sounds]
    assert torch.allclose(tokenizer.encode(raws).values, loop(), atol=2e-3)
    return compare("64 sounds: librosa / ours", loop, lambda: tokenizer.encode(raws))


def byte_pairs() -> Ratio:
    from tokenizers import Tokenizer

    tokenizer = installed().find("text.bpe", "tokenizer").load()(vocabulary_size=2000)
    texts = [line for line in inspect.getsource(inspect).splitlines() if line.strip()]
    tokenizer.fit(texts)
    library = Tokenizer.from_str(json.dumps(tokenizer.state()["tokenizer"]))

    begin, end = tokenizer.special["begin"], tokenizer.special["end"]

    def packed() -> torch.Tensor:
        found = library.encode_batch(texts)
        return torch.cat([torch.tensor([begin, *each.ids, end]) for each in found])

    assert torch.equal(tokenizer.encode(texts).ids, packed())
    return compare("2,000 lines: tokenizers / ours", packed, lambda: tokenizer.encode(texts))


def patches() -> Ratio:
    tokenizer = installed().find("vision.patches", "tokenizer").load()(size=224, patch=16)
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(16)]

    def unfolded() -> torch.Tensor:
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        columns = torch.nn.functional.unfold((batch - 0.5) / 0.5, 16, stride=16)
        return columns.transpose(1, 2).flatten(0, 1)

    # Ours has a pixel's colours side by side, unfold colour after colour.
    same = unfolded().unflatten(1, (3, -1)).transpose(1, 2).flatten(1)
    assert torch.allclose(tokenizer.encode(images).values, same, atol=1e-6)
    return compare("16 images: unfold / ours", unfolded, lambda: tokenizer.encode(images))


def main() -> list[Ratio]:
    found = [mels(), kmers(), byte_pairs(), graphs(), patches()]
    write("tokenizing", found)
    return found


if __name__ == "__main__":
    main()
