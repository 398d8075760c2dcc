"""Run every benchmark: `python -m benchmarks`, or `make bench`."""

from benchmarks import overhead, packing, plugins, resuming, tokenizing

if __name__ == "__main__":
    for module in (packing, overhead, tokenizing, resuming, plugins):
        module.main()
