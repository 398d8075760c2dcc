"""A Python that has imported what most programs of the tests import: they are forked from it.

    python warm_worker.py FOLDER

Importing torch and scikit-learn takes longer than what most programs then do. So this process
imports them once and then listens at FOLDER/socket; FOLDER/python stands in for the interpreter.
Run as `python -m module ...`, `python file ...` or `python -c code ...`, it has its arguments,
folder, environment and files taken over by a fork of this process, and ends as that does. The
stand-in is the fork's `sys.executable`, so that what it starts is warm, too. With WARM_SITE set,
that folder of packages is seen, too. Ends when its standard input does.

Not for tests of what is imported, or of how an interpreter starts.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import site
import socket
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path

IMPORTED = (
    "torch", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.run",
    "torch_geometric", "sklearn.datasets", "sklearn.linear_model", "sklearn.neighbors",
    "tokenizers", "PIL.Image", "pandas", "pyarrow.parquet", "polymodal.commands.cli",
    "polymodal.training.train", "polymodal.testing.checking",
)  # fmt: skip

STAND_IN = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    job = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
    job = json.dumps(job).encode()
    socket.send_fds(connection, [len(job).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(job)
    code = int(connection.makefile().read())
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def receive(connection):
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    left, job = int.from_bytes(size, "big"), b""
    while len(job) < left:
        job += connection.recv(left - len(job))
    return json.loads(job), files


def become(job, files, executable):
    """Make this process look like one that was started for the job."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.executable = executable
    if folder := os.environ.get("WARM_SITE"):
        site.addsitedir(folder)


def perform(arguments):
    if arguments[0] == "-u":  # what torchrun passes; all is flushed in the end
        arguments = arguments[1:]
    start, rest = arguments[0], arguments[1:]
    if start == "-m":
        sys.argv = rest
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif start == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        assert not start.startswith("-"), start
        sys.argv = arguments
        sys.path[0] = str(Path(start).resolve().parent)
        runpy.run_path(start, run_name="__main__")


def ended(arguments):
    """Perform, and return the exit code, as an interpreter does except that it tears nothing down.

    Freeing all that was imported would take most of a second.
    """
    code = 0
    try:
        perform(arguments)
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        if isinstance(exit.code, str):
            sys.stderr.write(f"{exit.code}\n")
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main(folder):
    address, executable = str(folder / "socket"), folder / "python"
    for name in IMPORTED:
        with suppress(ImportError):  # an extra that is not installed
            import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    executable.write_text(STAND_IN.format(python=sys.executable, address=address))
    executable.chmod(0o755)
    gc.freeze()  # a fork that collected them would copy all their pages
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        # One process waits for the program and tells its end, the other is the program.
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        job, files = receive(connection)
        child = os.fork()
        if not child:
            connection.close()
            become(job, files, str(executable))
            os._exit(ended(job["arguments"]))
        for file in files:
            os.close(file)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(code).encode())
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
