import os
import subprocess
import sys
import venv

import pytest


class Environment:
    """A virtual environment of its own, which also sees the packages of the one the tests run in.

    So what is installed here is an outside distribution, and nothing has to be fetched.
    """

    def __init__(self, folder, warm):
        venv.create(folder, with_pip=False)
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.warm = warm
        here = self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        self.packages = here.stdout.strip()
        seen = [path for path in sys.path if path not in ("", os.getcwd())]
        with open(f"{self.packages}/seen.pth", "w", encoding="utf-8") as file:
            file.write("\n".join(seen))

    packages = ""  # the folder where what is installed goes

    def run(self, *arguments, code=0, cwd=None, python=None):
        found = subprocess.run(
            [str(python or self.python), *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "WARM_SITE": self.packages},
            check=False,
        )
        assert found.returncode == code, found.stdout + found.stderr
        return found

    def run_warm(self, *arguments, code=0, cwd=None):
        """Run by a Python that has imported what both environments have, and sees this one's."""
        return self.run(*arguments, code=code, cwd=cwd, python=self.warm)

    def polymodal(self, *arguments, code=0, cwd=None):
        return self.run_warm("-m", "polymodal", *arguments, code=code, cwd=cwd)

    def install(self, *folders):
        quiet = ("--quiet", "--disable-pip-version-check", "--no-index")
        self.run("-m", "pip", "install", *quiet, "--no-deps", "--no-build-isolation", *folders)

    def uninstall(self, distribution):
        self.run("-m", "pip", "uninstall", "--quiet", "--yes", distribution)


@pytest.fixture
def outside(tmp_path, warm):
    pytest.importorskip("pip")
    pytest.importorskip("hatchling")  # what the distributions are built with
    return Environment(tmp_path / "environment", warm)
