"""CPython runs its own tests under the shim: Debian's 3.11 always, and every 3.8 to 3.13 that pyenv has. What fails under the shim
must fail without it too; only what fails is run plain, and once more under the shim: these tests have bad days of their own."""
import glob
import os
import re

import real
from real import support

MODULES = ["test_threading", "test_subprocess", "test_multiprocessing_fork", "test_multiprocessing_forkserver",
           "test_multiprocessing_spawn", "test_multiprocessing_main_handling"]
# Those two take half of the time, and differ least between versions: all but the newest and Debian's leave them to the soak. What lies between the
# oldest and the newest, and the second 3.11, leave all of them.
LONG = {"test_multiprocessing_forkserver", "test_multiprocessing_spawn"}
LONG_FOR, NONE_FOR = {13}, {9, 10, 11}
ALL = os.environ.get("TIDEMARK_TEST_ALL") == "1"

ONE_WAY = """import unittest, test._test_multiprocessing
test._test_multiprocessing.install_tests_in_module_dict(globals(), {way!r})
if __name__ == '__main__':
    unittest.main()
"""


def pyenv_python(minor):
    roots = [os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"), "/opt/pyenv", "/root/.pyenv"]
    for root in roots:
        for path in sorted(glob.glob(os.path.join(root, f"versions/3.{minor}.*/bin/python3"))):
            return path
    return None


def failures(out, err):
    """The names of what failed: single tests, and modules that crashed or hung."""
    text = (out + err).decode(errors="replace")
    names = {f"{name} ({where})" for name, where in re.findall(r"^(?:FAIL|ERROR): (\S+) \(([^)\s]+)\)", text, re.M)}
    failed = re.search(r"^\d+ tests? failed(?: again)?:\n((?:    .*\n)+)", text, re.M)
    if failed:   # modules that crashed or hung name no test
        names |= {module for module in failed.group(1).split() if not any(module in name for name in names)}
    return names


def modules_of(names):
    return sorted({module for name in names for module in MODULES
                   if module in name or module.replace("test_multiprocessing", "test_mp") in name}) or MODULES


class CPython:
    """The tests of one interpreter; mixed into a test case for each."""
    minor = None
    long = False
    own = True   # its own tests, not only in the soak

    def find(self):
        return pyenv_python(self.minor)

    def setUp(self):
        self.python = self.find()
        if not self.python:
            self.skipTest(f"no python3.{self.minor} here")
        if support.plain([self.python, "-c", "import test.test_threading"]).status != 0:
            self.skipTest(f"{self.python} has no test suite")
        super().setUp()

    def own_tests(self, launcher, modules):
        folder, self.log = self.new_folder(), ""
        ours = [name for name in modules if not self.has_module(name)]
        theirs = [name for name in modules if name not in ours]
        failed = self.regrtest(launcher, folder, theirs) if theirs else set()
        if ours:
            tests = self.new_folder()
            names = [name.replace("test_multiprocessing", "test_mp") for name in ours]
            for name in names:
                with open(os.path.join(tests, name + ".py"), "w") as file:
                    file.write(ONE_WAY.format(way=name.removeprefix("test_mp_")))
            failed |= self.regrtest(launcher, folder, ["--testdir", tests, *names])
        return failed

    def regrtest(self, launcher, folder, arguments):
        status, out, err = launcher.run([self.python, "-X", "faulthandler", "-m", "test", "-j4", "--timeout", "900", *arguments],
                                        cwd=folder, env={"TMPDIR": folder, "HOME": folder}, timeout=1400)
        failed = failures(out, err)
        if status != 0 and not failed:
            failed = {f"status {status}"}
        self.log += (out + err)[-6000:].decode(errors="replace")
        return failed

    def has_module(self, name):
        """From 3.11.5 on test_multiprocessing_fork & co are folders, which some builds of Python leave out."""
        return support.plain([self.python, "-c", f"import test.{name}"]).status == 0

    def recorded(self, modules):
        regions = self.new_folder()
        # No check: libunwind's own pipe would be two descriptors too many for test_subprocess. test_one_program checks, and has Python's
        # objects from malloc, which takes twice the time.
        options = {"check": 0, "child_region_size": "2M", "regions_max": "32G", "py_malloc": "keep"}
        with real.Launcher(self.new_folder(), regions, options) as launcher:
            return self.own_tests(launcher, modules), regions

    def test_own_tests(self):
        if not (ALL or self.own):
            self.skipTest("in scripts/soak only")
        failed, regions = self.recorded([m for m in MODULES if ALL or self.long or m not in LONG])
        log = self.log
        if failed:
            with real.Launcher(self.new_folder()) as launcher:
                failed -= self.own_tests(launcher, modules_of(failed))
        if failed:
            failed &= self.recorded(modules_of(failed))[0]
        self.assertEqual(set(), failed, f"fails under the shim, and not without it\n{log}")
        self.look_into(regions)

    def look_into(self, regions):
        """Hundreds of processes that fork, exec, die by signals: each region must be readable and free of contradictions."""
        count = disagreed = 0
        for report in self.each_report(regions):
            killed = report.process["ending"] in ("killed", "signaled", "running")
            if not killed:
                self.assertEqual([], report.contradictions(), report.path)
            count += 1
            disagreed += report.coverage["checks_disagreed"]
        self.assertGreater(count, 10, self.log)
        self.assertEqual(0, disagreed)

    def test_one_program(self):
        """Threads, a pool of processes, a subprocess, and no word more on standard error than without the shim."""
        script = """if True:
            import concurrent.futures, json, multiprocessing, os, subprocess, sys, threading
            def square(x): return x * x
            if __name__ == '__main__':
                with concurrent.futures.ThreadPoolExecutor(4) as pool:
                    print(sum(pool.map(square, range(1000))))
                with multiprocessing.get_context('fork').Pool(2) as pool:
                    print(sum(pool.map(square, range(1000))))
                print(subprocess.run([sys.executable, '-c', 'print(6 * 7)'], stdout=subprocess.PIPE).stdout)
                kept = [json.loads(json.dumps({'k': list(range(50))})) for _ in range(2000)]
                print(len(kept))
                os._exit(3)
            """
        path = os.path.join(self.folder, "program.py")
        with open(path, "w") as file:
            file.write("\n".join(line[12:] for line in script.splitlines()[1:]))
        reports = self.both(lambda launcher: launcher.run([self.python, path]))
        main = max(reports, key=lambda r: r.totals["live_bytes"])
        self.assert_sensible(main, status=3, allocations=10000, live=1_000_000)


def python_case(minor):
    return type(f"Python3_{minor}", (CPython, real.RealProgram), {"minor": minor, "long": minor in LONG_FOR, "own": minor not in NONE_FOR, "__module__": __name__})


for number in range(8, 14):
    globals()[f"Python3_{number}"] = python_case(number)


class Debian(CPython, real.RealProgram):
    """The distribution's own, with the package libpython3.11-testsuite."""
    minor, long, own = 11, True, True

    def find(self):
        return "/usr/bin/python3.11" if os.path.exists("/usr/bin/python3.11") else None


class ForkWarning(real.RealProgram):
    """From 3.12 on os.fork() warns in a process with more than one thread; the keeper must not be counted."""

    def test_fork(self):
        tried = 0
        for minor in (12, 13):
            python = pyenv_python(minor)
            if not python:
                continue
            tried += 1
            for script in ("import os; pid = os.fork(); pid and os.waitpid(pid, 0)",
                           "import os, time; time.sleep(0.5); pid = os.fork(); pid and os.waitpid(pid, 0)"):
                command = [python, "-W", "error", "-c", script]
                without = support.plain(command)
                for how in (self.preloaded, self.tracked):
                    run = how(command)
                    self.assertEqual((without.status, without.out, without.err), (run.status, run.out, run.err))
        if not tried:
            self.skipTest("no python3.12 and no python3.13 here")
