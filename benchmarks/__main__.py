"""Run every benchmark: `python -m benchmarks`, or `make bench`."""

from benchmarks import grouping, overhead, packing, plugins, tokenizing

if __name__ == "__main__":
    for module in (packing, grouping, overhead, tokenizing, plugins):
        module.main()
