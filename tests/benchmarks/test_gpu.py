"""The script for GPUs runs anywhere at toy size."""

import pytest
from benchmarks import gpu


@pytest.mark.slow
def test_the_gpu_benchmark_runs_at_toy_size(capsys):
    found = gpu.main(["--toy"])
    names = [ratio.name for ratio in found]
    assert names == ["CLIP B/32, MFU", "CLIP B/16, MFU", "MAE B, MFU", "MLM 512, MFU", "mix, MFU",
                     "mix / sum of its parts"]  # fmt: skip
    assert all(ratio.ratio > 0 for ratio in found)
    # Two blocks of width 64, 12 * width^2 weights each, over 49 and 32 tokens; the backward pass
    # is two more. The stem has 3 * 32^2 * 64 weights and needs no gradient of its input.
    case = gpu.cases(toy=True)[0]
    used = gpu.flops(case, gpu.config_of(case, "cpu", case.objectives))
    blocks, stem = 3 * 2 * (2 * 12 * 64**2) * (49 + 32), 2 * 2 * (3 * 32**2 * 64) * 49
    assert used == pytest.approx(blocks + stem, rel=0.1)


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == []
    assert "no GPU here" in capsys.readouterr().out
