"""One loss function of ours in code that knows nothing else of polymodal.

    python examples/embedding/loss_alone.py

Losses are pure functions of tensors and return sums. `tile` builds the similarity matrix some rows
at a time: memory then grows with the batch, not with its square, and the gradient stays the same.
"""

import torch
from torch.nn import functional

from polymodal_contrastive import info_nce


def main(batch: int = 512, width: int = 64) -> None:
    torch.manual_seed(0)
    images = functional.normalize(torch.randn(batch, width), dim=1).requires_grad_()
    texts = functional.normalize(images.detach() + 0.2 * torch.randn(batch, width), dim=1)

    total, right = info_nce(images, texts, scale=20.0)
    (whole,) = torch.autograd.grad(total / batch, images)
    usual = functional.cross_entropy(20.0 * images @ texts.T, torch.arange(batch))
    print(f"mean loss {total / batch:.4f}, by torch's cross-entropy {usual:.4f}")
    print(f"partner scored highest: {right / batch:.0%} of {batch}")

    total, _ = info_nce(images, texts, scale=20.0, tile=64)
    (tiled,) = torch.autograd.grad(total / batch, images)
    print(f"64 rows at a time: gradients differ by at most {(tiled - whole).abs().max():.0e}")


if __name__ == "__main__":
    main()
