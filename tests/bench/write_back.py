"""What tracking writes to the disk while a process lives: pages of its region that its stores made dirty, a minute, as the kernel counts them
(write_bytes of /proc/PID/io: a page counts each time it becomes dirty, mm/page-writeback.c). A page becomes clean when it was written back, about
twice a minute; so it is what is touched again and again that costs, not how often."""
import os
import tempfile
import time

from measure import Failed, Process

SETTLE = 25   # seconds until what a start-up touches is done with: stacks get their details at 10 s, once

IDLE = "import time; time.sleep({seconds})"
BUSY = """
import json, time
end = time.monotonic() + {seconds}
kept = {{}}
number = 0
while time.monotonic() < end:
    number += 1
    rows = [{{'id': i, 'name': 'user %d' % i, 'tags': ['a', 'b', str(i)]}} for i in range(500)]
    kept[number % 50] = json.loads(json.dumps(rows))
"""


def written(process):
    with open(f"/proc/{process.pid}/io") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("write_bytes:"))


def measure(library, seconds, folder):
    """Bytes a minute of an idle and of a busy process, at once: [{process, bytes_per_minute, region_bytes}]."""
    folder = tempfile.mkdtemp(dir=folder, prefix="write-back-")
    processes = {}
    try:
        for name, source in (("idle", IDLE), ("busy", BUSY)):
            own = os.path.join(folder, name)
            os.mkdir(own)
            env = {"PATH": os.environ["PATH"], "PYTHONMALLOC": "malloc", "LD_PRELOAD": library, "TIDEMARK_OPTIONS": f"dir={own}"}
            script = source.format(seconds=SETTLE + seconds + 30)
            processes[name] = Process(["/usr/bin/python3", "-c", script], env, own)
        time.sleep(SETTLE)
        began, before = time.monotonic(), {name: written(p) for name, p in processes.items()}
        time.sleep(seconds)
        minutes = (time.monotonic() - began) / 60
        rows = [{"process": name, "bytes_per_minute": (written(p) - before[name]) / minutes,
                 "region_bytes": sum(os.path.getsize(os.path.join(folder, name, f)) for f in os.listdir(os.path.join(folder, name)) if f.endswith(".tide"))}
                for name, p in processes.items()]
    except (OSError, StopIteration) as error:
        raise Failed(f"write-back: {error}") from error
    finally:
        for process in processes.values():
            process.process.kill()
            process.process.wait()
    return rows
