import subprocess
import sys

from polymodal.ground.locking import Lock

HOLD = """
import sys, time
from pathlib import Path
from polymodal.ground.locking import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.take(), flush=True)
time.sleep(600)
"""


def other_process(path):
    return subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)


def test_a_lock_keeps_another_process_out_until_that_is_killed(tmp_path):
    path = tmp_path / ".lock"
    with other_process(path) as holder:
        assert holder.stdout.readline() == b"True\n"
        lock = Lock(path)
        assert not lock.take()
        holder.kill()
        holder.wait()
        assert lock.take() and path.exists()
        lock.release()


def test_a_child_that_outlives_a_process_does_not_hold_its_lock(tmp_path):
    path = tmp_path / ".lock"
    lock = Lock(path)
    assert lock.take()
    # As a forked data worker does, it has the open file.
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(sleep, pass_fds=[lock._handle]) as child:
        lock.release()
        with other_process(path) as holder:
            assert holder.stdout.readline() == b"True\n"
            holder.kill()
        child.kill()
