"""What a workload runs under: glibc alone, other allocators, and other profilers. Each is put in by the environment, as its own launcher does
it, so that what the program costs and what the tool's helpers cost can be told apart."""
import glob
import os
import shutil
import subprocess
import sys

from measure import Cost


class Tool:
    """One way to run a program."""
    name = "glibc"
    light = True   # takes turns with the others that are
    python_only = False

    def missing(self):
        """Why it cannot be used here, or None."""
        return None

    def command(self, command, folder):
        return command

    def environment(self, folder):
        return {}

    def begin(self, folder):
        """Helpers that must be there before the program."""

    def finish(self):
        """Waits for the helpers; their Cost, or None."""
        return None

    def left(self, folder):
        """Bytes of the files the tool leaves."""
        return sum(os.path.getsize(path) for path in glob.glob(os.path.join(folder, "tool", "*")))


class Preloaded(Tool):
    def __init__(self, name, library, package, light=False, **variables):
        self.name, self.package, self.light, self.variables = name, package, light, variables
        self.library = next(iter(sorted(glob.glob(library))), None)

    def missing(self):
        return None if self.library else f"package {self.package} is not installed"

    def environment(self, folder):
        settings = {key: value.format(folder=os.path.join(folder, "tool")) for key, value in self.variables.items()}
        return {"LD_PRELOAD": self.library, **settings}


class Heaptrack(Preloaded):
    """As /usr/bin/heaptrack does it: a pipe to heaptrack_interpret, and its output through a compressor."""

    def __init__(self):
        super().__init__("heaptrack", "/usr/lib/heaptrack/libheaptrack_preload.so", "heaptrack",
                         DUMP_HEAPTRACK_OUTPUT="{folder}/pipe")
        self.interpreter = "/usr/lib/heaptrack/libexec/heaptrack_interpret"

    def begin(self, folder):
        self.pipe = os.path.join(folder, "tool", "pipe")
        os.mkfifo(self.pipe)
        out = os.path.join(folder, "tool", "heaptrack.gz")
        self.helper = subprocess.Popen(["/bin/sh", "-c", f"{self.interpreter} < {self.pipe} | gzip > {out}"], stderr=subprocess.DEVNULL)

    def finish(self):
        try:   # a program that never opened the pipe leaves the helper waiting for one
            os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:   # nobody reads any more: the program did its part
            pass
        _, status, usage = os.wait4(self.helper.pid, 0)
        self.helper.returncode = os.waitstatus_to_exitcode(status)
        return Cost(usage.ru_utime + usage.ru_stime, 0, usage.ru_maxrss * 1024, usage.ru_oublock * 512)


class Memray(Tool):
    name, python_only, light = "memray", True, False

    def __init__(self, python):
        self.python = python

    def missing(self):
        if not self.python:
            return "memray cannot be installed"
        return None

    def command(self, command, folder):
        return [self.python, "-m", "memray", "run", "--native", "-q", "-o", os.path.join(folder, "tool", "memray.bin"), *command[1:]]


def all_tools(library, memray_python, other=None):
    """other: another build of the library."""
    lib = "/usr/lib/x86_64-linux-gnu"
    others = [Preloaded("other", other, "(ours)", light=True, TIDEMARK_OPTIONS="dir={folder}")] if other else []
    return [
        Tool(),
        Preloaded("jemalloc", f"{lib}/libjemalloc.so.2", "libjemalloc2", light=True),
        Preloaded("tidemark", library, "(ours)", light=True, TIDEMARK_OPTIONS="dir={folder}"),
        Heaptrack(),
        Preloaded("jeprof19", f"{lib}/libjemalloc.so.2", "libjemalloc2",
                  MALLOC_CONF="prof:true,lg_prof_sample:19,prof_final:true,prof_prefix:{folder}/je"),
        Preloaded("jeprof0", f"{lib}/libjemalloc.so.2", "libjemalloc2",
                  MALLOC_CONF="prof:true,lg_prof_sample:0,prof_final:true,prof_prefix:{folder}/je"),
        Preloaded("tcmalloc", f"{lib}/libtcmalloc.so.4", "libgoogle-perftools4", HEAPPROFILE="{folder}/tc"),
        Memray(memray_python),
    ] + others


def say(text):
    print(text, file=sys.stderr, flush=True)


def which(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/games")
