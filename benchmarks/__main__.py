"""Run every benchmark: `python -m benchmarks`, or `make bench`."""

from importlib import import_module

NAMES = (
    "packing",
    "grouping",
    "modalities",
    "mixed",
    "overhead",
    "clip",
    "contrastive",
    "scaling",
    "ranks",
    "ledger",
    "data_path",
    "tokenizing",
    "resuming",
    "plugins",
    "gpu",
)

if __name__ == "__main__":
    for name in NAMES:
        module = import_module(f"benchmarks.{name}")
        module.main([]) if name == "gpu" else module.main()
