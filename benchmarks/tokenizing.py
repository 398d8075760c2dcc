"""Tokenizers against the usual way: k-mers by a loop, graphs by torch-geometric's Batch.

python -m benchmarks.tokenizing
"""

import time
from itertools import product

import numpy as np
import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal.plugins import installed

CPU = time.process_time


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


def main() -> list[Ratio]:
    found = [kmers(), graphs()]
    write("tokenizing", found)
    return found


if __name__ == "__main__":
    main()
