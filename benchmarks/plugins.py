"""What other people's plugins add to listing them: CPU time of `polymodal plugins --json`.

    python -m benchmarks.plugins

Each run is a process of its own. The plugins are distributions made for the purpose, found by their
entry points on the path; one in ten raises when imported. Beside them stand this environment's own.
Bytecode is kept between runs, as it is where programs are installed.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.ratio import Ratio, compare, write

COUNTS = (1, 40, 100, 200)
PLUGIN = """
from polymodal import hookimpl

@hookimpl
def polymodal_register(registry):
    registry.encoder("tower", "tower:Tower", "a tower")
"""


def install(folder: Path, count: int) -> None:
    """Put this many distributions into a folder, as an installer would."""
    for number in range(count):
        name = f"dummy_{number:03}"
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        info.joinpath("entry_points.txt").write_text(f"[polymodal]\n{name} = {name}\n")
        folder.joinpath(f"{name}.py").write_text("1 / 0" if number % 10 == 9 else PLUGIN)


def listing(folder: Path) -> Callable[[], object]:
    """Return what lists the plugins of this environment and of a folder, in a new process."""
    command = [sys.executable, "-m", "polymodal", "plugins", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    return lambda: subprocess.run(command, env=environment, check=True, capture_output=True)


def seconds() -> float:
    """Return the CPU time of all processes waited for so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> list[Ratio]:
    found = []
    with tempfile.TemporaryDirectory() as name:
        none = Path(name) / "none"
        for count in COUNTS:
            some = Path(name) / str(count)
            install(some, count)
            found.append(
                compare(
                    f"CPU of listing {count} more plugins / none",
                    listing(some),
                    listing(none),
                    clock=seconds,
                )
            )
    write("plugins", found)
    return found


if __name__ == "__main__":
    main()
