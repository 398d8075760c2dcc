"""Draws which token sees which in the paper's example, from the tokenizer and the attention rule.

python examples/papers/graphcodebert/figure.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from polymodal import attention_maps
from polymodal_code.data_flow import data_flow
from polymodal_code.flow_tokens import KINDS, DataFlowTokens

CODE = """
def max(a, b):
    x = 0
    if b > a:
        x = b
    else:
        x = a
    return x
"""
NODE = KINDS.index("node")


def main() -> None:
    record = {"code": CODE, "language": "python"}
    tokenizer = DataFlowTokens(vocabulary_size=2000)
    tokenizer.fit([record])
    tokens = tokenizer.encode([record])
    flow = data_flow(CODE, "python")
    names = ["[CLS]", *flow.tokens, "[SEP]", *(flow.tokens[node] for node in flow.nodes)]
    assert len(names) == tokens.layout.tokens  # every token of so short a text is one piece
    rows = torch.zeros(len(names), 1, 8)
    (weights,) = attention_maps(rows, rows, tokens.layout, edges="guide", guided=(NODE,))
    seen = (weights[0] > 0).float()
    nodes = tokens.layout.kinds == NODE
    seen[nodes] *= 2
    seen[:, nodes] = seen[:, nodes].clamp(max=1) * 2
    figure, axes = plt.subplots(figsize=(6.5, 6.5))
    axes.imshow(seen, cmap="Blues", vmin=0, vmax=3)
    for ticks, labels in (
        (axes.set_xticks, axes.set_xticklabels),
        (axes.set_yticks, axes.set_yticklabels),
    ):
        ticks(range(len(names)))
        labels(names, fontsize=6, family="monospace")
    axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlabel("is seen (last: the nodes of variables)")
    axes.set_ylabel("sees")
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("mask.svg"))


if __name__ == "__main__":
    main()
