"""What the shim costs a program that ends at once: `true` plain, with enable=0, within its child_grace, and with a region.
Goal of issue 3: + 0.5 ms without a region, + 5 ms with one on a disk file system. Medians of interleaved runs, so that what else the
machine does hits all alike. Usage: startup.py LIBRARY [RUNS]"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def measure(command, env):
    start = time.perf_counter()
    os.waitpid(os.posix_spawn(command[0], command, env), 0)
    return (time.perf_counter() - start) * 1000


def main(library, runs=300):
    folder = tempfile.mkdtemp(dir="/var/tmp")
    base = {"PATH": os.environ["PATH"]}
    shim = {**base, "LD_PRELOAD": os.path.abspath(library)}
    ways = {
        "plain": base,
        "enable=0": {**shim, "TIDEMARK_OPTIONS": "enable=0"},
        "region": {**shim, "TIDEMARK_OPTIONS": f"dir={folder}"},
    }
    program = shutil.which("true")
    times = {way: [] for way in ways}
    for _ in range(runs):
        for way, env in ways.items():
            times[way].append(measure([program], env))
        for name in os.listdir(folder):
            os.remove(os.path.join(folder, name))
    children = {way: [] for way in ("plain", "in its grace")}
    loop = f"for i in $(seq 50); do {program}; done"   # bash makes a child for each
    for _ in range(max(3, runs // 20)):
        for way, env in (("plain", base), ("in its grace", {**shim, "TIDEMARK_OPTIONS": f"dir={folder}:child_grace=1h"})):
            start = time.perf_counter()
            subprocess.run(["bash", "-c", loop], env=env, check=True)
            children[way].append((time.perf_counter() - start) * 1000 / 50)
        for name in os.listdir(folder):
            os.remove(os.path.join(folder, name))
    os.rmdir(folder)
    for way, values in [*times.items(), *((f"child, {k}", v) for k, v in children.items())]:
        plain = statistics.median(children["plain"] if way.startswith("child") else times["plain"])
        print(f"{way:20} {statistics.median(values):7.3f} ms   + {statistics.median(values) - plain:6.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
