"""Run every benchmark: `python -m benchmarks`, or `make bench`."""

from benchmarks import (
    clip,
    contrastive,
    gpu,
    ledger,
    modalities,
    overhead,
    packing,
    plugins,
    ranks,
    scaling,
    tokenizing,
)

if __name__ == "__main__":
    for module in (packing, modalities, overhead, clip, contrastive, scaling, ranks, ledger):
        module.main()
    for module in (tokenizing, plugins):
        module.main()
    gpu.main([])
