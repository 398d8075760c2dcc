"""The contrastive loss of a large batch against open_clip's: time, memory and gradients.

    python -m benchmarks.contrastive

First: our symmetric InfoNCE, forward and backward. Second: open_clip's ClipLoss on the same
vectors. Memory is what a process of its own grows by at its peak; gradients are compared with
ClipLoss's in float64 up to 4,096 rows.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor

from benchmarks.ratio import Ratio, compare, write
from polymodal_contrastive import symmetric_info_nce

WIDTH = 512
ROWS = (1024, 4096, 16384)


def inputs(rows: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2)]
    made[1] += made[0]  # partners are alike, as after some training
    found = [F.normalize(each, dim=1).to(dtype).requires_grad_() for each in made]
    return [*found, torch.tensor(20.0, dtype=dtype, requires_grad=True)]


def ours(one: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    return symmetric_info_nce(one, other, scale=scale)[0] / len(one)


def clip(one: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    found: Tensor = ClipLoss()(one, other, scale)
    return found


LOSSES = {"ours": ours, "ClipLoss": clip}


def gradients(which: str, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(LOSSES[which](*tensors), tensors)


def peak(which: str, rows: int) -> int:
    """Return the bytes by which a process grows while it takes the gradients once."""
    command = [sys.executable, "-m", "benchmarks.contrastive", which, str(rows)]
    return int(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def _grow(which: str, rows: int) -> None:
    gradients(which, inputs(8))  # what loads once
    tensors = inputs(rows)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = _peak()
    gradients(which, tensors)
    sys.stdout.write(str(max(_peak() - before, 1)))


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> list[Ratio]:
    found = []
    for rows in ROWS:
        if rows <= 4096:
            exact = gradients("ClipLoss", inputs(rows, torch.float64))
            for which in LOSSES:
                pairs = zip(gradients(which, inputs(rows)), exact, strict=True)
                off = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
                print(f"{which}, {rows} rows: gradients within {off:.0e} of float64")
        tensors = inputs(rows)
        found.append(
            compare(
                f"contrastive loss, {rows} rows: ours / ClipLoss, time",
                lambda t=tensors: gradients("ours", t),  # type: ignore[misc]
                lambda t=tensors: gradients("ClipLoss", t),  # type: ignore[misc]
                rounds=5 if rows > 4096 else 11,
            )
        )
        one, other = peak("ours", rows), peak("ClipLoss", rows)
        name = f"contrastive loss, {rows} rows: ours / ClipLoss, memory"
        print(f"{name}: {one / other:.3f} ({one / 1e6:.0f} MB against {other / 1e6:.0f} MB)")
        found.append(Ratio(name, one / other, one / other, one / other, 0.0, 0.0, 1))
    write("contrastive", found)
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _grow(sys.argv[1], int(sys.argv[2]))
    else:
        main()
