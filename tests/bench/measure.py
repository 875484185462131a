"""Starts one program of a measurement and says what it cost: CPU and memory as the kernel counted them for it and the children it waited for.
And ends what a measurement leaves behind."""
import ctypes
import dataclasses
import os
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "loads"))
import ports


@dataclasses.dataclass
class Cost:
    """cpu, wall in seconds, wall without the turns of others; rss and written in bytes. rate: units a second, where the workload has units."""
    cpu: float
    wall: float
    rss: int
    written: int          # to disk, by the program: file pages it dirtied too
    units: float = 0      # done by this process; its CPU is compared a unit, batch programs have one
    rate: float = 0


class Failed(Exception):
    pass


class Process:
    """One process, started now. Output goes to a file: its end is part of the message when it fails."""

    def __init__(self, command, env, folder, *, stdin=None, cwd=None):
        self.command = command
        self.log = os.path.join(folder, "output")
        with open(self.log, "wb") as log:
            self.started = time.perf_counter()
            self.process = subprocess.Popen(command, env=env, cwd=cwd or folder, stdin=stdin or subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT)
        self.end = os.pidfd_open(self.pid)   # readable once it has ended
        self.peak, self.paused, self.paused_for = 0, None, 0

    @property
    def pid(self):
        return self.process.pid

    def take_turn(self, seconds):
        """Runs for so long, or to its end, then stands still until its next turn. Whether it has ended."""
        if self.paused is not None:
            self.paused_for += time.perf_counter() - self.paused
            self.paused = None
            self.send(signal.SIGCONT)
        if self.run_until(time.perf_counter() + seconds):
            return True
        self.send(signal.SIGSTOP)
        self.paused = time.perf_counter()
        return False

    def send(self, number):
        """Not by Popen.send_signal(): that waits for one which has ended, and its Cost would be lost."""
        os.kill(self.pid, number)

    def run_until(self, deadline):
        """Whether it has ended by then."""
        while (left := deadline - time.perf_counter()) > 0:
            self.peak = max(self.peak, self.peak_memory())
            if select.select([self.end], [], [], min(0.005, left))[0]:
                return True
        return False

    def ran_for(self):
        return time.perf_counter() - self.started - self.paused_for

    def kill(self):
        """It alone, by its pid. Nothing, where it was waited for."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self):
        if self.end is not None:
            os.close(self.end)
            self.end = None

    def wait(self, limit=600, good=(0,)):
        """To its end; Cost. A program that does not end is killed."""
        if not self.run_until(time.perf_counter() + limit):
            self.kill()
            raise Failed(f"does not end: {self.command}")
        wall = self.ran_for()
        _, status, usage = os.wait4(self.pid, 0)
        self.close()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode not in good:
            raise Failed(f"status {self.process.returncode}: {self.command}\n{self.tail()}")
        return Cost(usage.ru_utime + usage.ru_stime, wall, self.peak or usage.ru_maxrss * 1024, usage.ru_oublock * 512)

    def peak_memory(self):
        """Bytes, so far. Not ru_maxrss: that begins with the memory of the Python that started the process (kernel/exit.c, fs/exec.c)."""
        try:
            with open(f"/proc/{self.pid}/status") as file:
                return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)
        except OSError:
            return 0

    def stop(self, with_signal=signal.SIGTERM, good=(0, -signal.SIGTERM)):
        self.send(with_signal)
        return self.wait(60, good)

    def cpu_now(self):
        """Seconds of CPU so far, of this process with its threads that ended: its CPU clock, in ns, where /proc/PID/stat has ticks of 10 ms (clock_getcpuclockid(3);
        the number is made as MAKE_PROCESS_CPUCLOCK of linux/posix-timers.h does, CPUCLOCK_SCHED)."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def tail(self):
        with open(self.log, "rb") as log:
            return log.read()[-1500:].decode(errors="replace")

    def text(self):
        with open(self.log, errors="replace") as log:
            return log.read()


def wait_for_port(port, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if ports.answers(port):
            return
        time.sleep(0.02)
    raise Failed(f"port {port} does not answer: {process.command}\n{process.tail()}")


def client(command, env=None, folder=None, limit=300):
    """A load, never under a tool: its output."""
    with subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except BaseException as error:   # its own children may hold the pipe, so nothing is read any more; end_descendants() ends them
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"does not end in {limit} s: {command}") from None
            raise
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise Failed(f"status {process.returncode}: {command}\n{text[-1500:]}")
    return text


def plain_environment():
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


PR_SET_CHILD_SUBREAPER = 36   # linux/prctl.h


def adopt_orphans():
    """From now on a descendant whose parent ended becomes a child of this process, so that it can still be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def parents():
    """{pid: pid of its parent}, of all processes; those that ended and nobody waited for too."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])   # the name before may have any character
        except OSError:   # it is gone
            pass
    return found


def descendants():
    parent = parents()
    found, last = set(), {os.getpid()}
    while last:
        last = {pid for pid in parent if parent[pid] in last} - found
        found |= last
    return found


def end_descendants(limit=30):
    """Kills all that this process started and what those started, in other sessions too, and waits for them: killed parents leave orphans, so until
    there are none. Only after adopt_orphans()."""
    deadline = time.monotonic() + limit
    while (left := descendants()) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:   # ended, or another user's
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        time.sleep(0.005)
