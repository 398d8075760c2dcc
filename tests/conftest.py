import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# A machine may be busy: no example fails by the clock.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")


@pytest.fixture(scope="session")
def warm():
    """What to start instead of `sys.executable` where a program's imports would be most of it.

    See warm_worker.py.
    """
    worker = Path(__file__).with_name("warm_worker.py")
    # The address of a socket has to be short.
    with (
        tempfile.TemporaryDirectory(prefix="warm-") as folder,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", worker, folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        yield f"{folder}/python"
        # Not by the end of its pipe alone: a test's data workers, forked since, may hold that open.
        process.kill()
