"""Run every benchmark: `python -m benchmarks`, or `make bench`."""

from benchmarks import data_path, overhead, packing, plugins, resuming, tokenizing

if __name__ == "__main__":
    for module in (packing, overhead, tokenizing, data_path, resuming, plugins):
        module.main()
