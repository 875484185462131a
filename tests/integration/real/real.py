"""What the tests of real programs share. A load is a function of a Launcher; it is called once with a plain one and once with
one that puts `tidemark run` before the programs, and must return the same both times."""
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

INTEGRATION = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [INTEGRATION, os.path.join(os.path.dirname(INTEGRATION), "loads")]
import ports
import support
from ports import free_port  # noqa: F401  for the tests, which have it from here

CACHE = os.environ.get("TIDEMARK_CACHE", "/var/tmp/tidemark-test-cache")
CHECK_ONE_IN = int(os.environ.get("TIDEMARK_CHECK", "97"))   # "Must hold" 6: libunwind walks one stack in so many again


def wait_for_port(port, seconds=60):
    return support.wait_until(lambda: ports.answers(port), seconds)


class Launcher:
    """Starts programs, plain or recorded, and ends them one by one, by their id."""

    def __init__(self, folder, regions=None, options=None):
        self.folder, self.regions = folder, regions
        self.options = {"check": CHECK_ONE_IN, **(options or {})}
        self.running = []

    @property
    def recorded(self):
        return self.regions is not None

    def command(self, command):
        if not self.recorded:
            return command
        return support.tidemark_run(command, self.regions, **self.options)

    def start(self, command, *, env=None, **popen):
        number = len(self.running)
        output, errors = (os.path.join(self.folder, f"{stream}.{number}") for stream in ("out", "err"))
        with open(output, "wb") as out, open(errors, "wb") as err:
            process = subprocess.Popen(self.command(command), env=support.clean_environment({"TIDEMARK_TEST_FOLDER": self.folder, **(env or {})}),
                                       stdin=popen.pop("stdin", subprocess.DEVNULL), stdout=out, stderr=err, **popen)
        process.output, process.errors = output, errors
        self.running.append(process)
        return process

    def run(self, command, *, timeout=300, **popen):
        """To its end: (status, stdout, stderr)."""
        process = self.start(command, **popen)
        return self.finish(process, timeout)

    def finish(self, process, timeout=300):
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"hangs: {process.args}\n{support.stack_of(process.pid)}") from None
        return status, self.text(process.output), self.text(process.errors)

    @staticmethod
    def text(path):
        with open(path, "rb") as file:
            return file.read()

    def stop(self, process, with_signal=signal.SIGTERM, timeout=60):
        process.send_signal(with_signal)   # `tidemark run` passes it on
        return self.finish(process, timeout)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        """Ends what is still there. After a load that went well that is an error: something hangs."""
        left = {}
        if failure is None:
            support.wait_until(lambda: not support.processes_of(self.folder), 20)
            left = support.processes_of(self.folder)
        stacks = "\n".join(support.stack_of(pid) for pid in left)
        for pid in {*support.processes_of(self.folder), *(p.pid for p in self.running if p.poll() is None)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.running:
            process.wait()
        if left:
            raise AssertionError(f"still there after the load's end: {left}\n{stacks}")


class RealProgram(support.TestCase):
    NEEDS = ()   # programs without which the test is skipped
    TOP = 0      # sites to read of each report; 0: all, so that their sum can be compared with the totals

    def setUp(self):
        for program in self.NEEDS:
            if not support.has(program):
                self.skipTest(f"{program} is not installed")
        super().setUp()
        os.chmod(self.folder, 0o755)

    def both(self, load, options=None):
        """Runs the load plain and recorded, compares what it returns, and hands back the reports."""
        results = []
        for recorded in (False, True):
            folder = self.new_folder()
            regions = self.new_folder() if recorded else None
            with Launcher(folder, regions, options) as launcher:
                results.append(load(launcher))
        self.assertEqual(results[0], results[1], "plain, recorded")
        return self.reports_in(regions)

    def reports_in(self, regions):
        files = sorted(glob.glob(os.path.join(regions, "*.tide")))
        self.assertTrue(files, "no region")
        reports = [support.read_report(path, self.TOP) for path in files]
        self.note_checks(reports)
        return reports

    def each_report(self, regions, all_sites_of=100):
        """For folders with hundreds of regions: their reports, a few in memory at a time; every 100th with all its sites, the others
        with the largest only."""
        files = sorted(glob.glob(os.path.join(regions, "*.tide")))
        for start in range(0, len(files), all_sites_of):
            some = files[start:start + all_sites_of]
            reports = [support.read_report(some[0], 0), *support.read_reports(some[1:], 1)]
            self.note_checks(reports)
            yield from reports

    def note_checks(self, reports):
        """For the closing note: how many stacks were checked against libunwind, and how many differed."""
        os.makedirs(CACHE, exist_ok=True)
        with open(os.path.join(CACHE, "checks.jsonl"), "a") as file:
            for report in reports:
                json.dump({"test": self.id(), "process": os.path.basename(report.path),
                           "checks": report.coverage["checks"], "disagreed": report.coverage["checks_disagreed"],
                           "losses": report.losses()}, file)
                file.write("\n")

    @staticmethod
    def of(reports, name):
        """The reports of processes with this name, busiest first."""
        return sorted((r for r in reports if os.path.basename(r.path).startswith(name + ".")),
                      key=lambda r: -r.totals["allocated_count"])

    def assert_sensible(self, report, *, ending="exited", status=0, allocations=1000, live=1):
        """A report that a person could act on: known ending, live blocks, stacks that lead somewhere, hardly a loss."""
        process, totals, coverage = report.process, report.totals, report.coverage
        self.assertEqual(ending, process["ending"], report.path)
        if ending == "exited" and status is not None:
            self.assertEqual(status, process["exit_status"])
        self.assertEqual([], report.contradictions())
        self.assertGreaterEqual(totals["allocated_count"], allocations)
        self.assertGreaterEqual(totals["live_bytes"], live)
        self.assertGreater(totals["peak_live_bytes"], 0)
        self.assertGreater(process["duration_s"], 0)
        self.assert_resolved(report)
        if report.raw["ledger"]:   # of a process that lived for a moment there is none
            self.assert_explained(report.raw["ledger"])
        few = max(10, totals["allocated_count"] // 1000)
        for key in ("nested_allocations", "overflow_allocations", "untracked_allocations"):
            self.assertLessEqual(coverage[key], few, key)
        for key in ("threads_without_slot", "modules_dropped", "switch_timeouts", "children_unrecorded", "checks_disagreed"):
            self.assertEqual(0, coverage[key], key)
        self.assertLess(coverage["hard_frames"], max(5, coverage["stacks"] // 20))
        self.assertGreater(coverage["checks"], 0)

    def assert_resolved(self, report):
        """Of the largest sites, most frames are in a known module, and most sites begin with a function's name or there."""
        top = sorted((s for s in report.sites if s["live_bytes"]), key=lambda s: -s["live_bytes"])[:20]
        frames = [f for s in top for f in s["frames"]]
        with_module = [f for f in frames if f.get("module") or f.get("function")]
        self.assertGreater(len(with_module), 0.9 * len(frames), report.path)
        self.assertGreater(len(frames), len(top), "stacks of one frame are no stacks")


def copy_of(path, folder):
    return shutil.copy(path, folder)


def wait_for_text(path, text, seconds=60):
    def there():
        with open(path, "rb") as file:
            return text in file.read()
    return support.wait_until(there, seconds)


def settle(seconds):
    """Gives a server time to do what it does by itself; nothing depends on how much it does."""
    time.sleep(seconds)
