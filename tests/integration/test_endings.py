"""Every way to end: same status and output as without the shim, and the report says which it was."""
import os
import signal
import subprocess
import time

import support

VICTIM = support.victim("endings")

# argument → what the report must say: ending, exit_status, signal
EXITS = {"return": 2, "exit": 3, "_exit": 4, "_Exit": 14, "quick_exit": 5, "pthread_exit": 0, "quiet_last_thread": 0, "restless_last_thread": 0,
         "exit_from_thread": 11, "exit_in_atexit": 12, "failed_execve": 8}
SIGNALS = {"abort": signal.SIGABRT, "terminate": signal.SIGABRT, "segv": signal.SIGSEGV, "kill": signal.SIGKILL,
           "term": signal.SIGTERM}


class EndingsCase(support.TestCase):
    def end(self, how):
        without = support.plain([VICTIM, how])
        under = self.tracked([VICTIM, how])
        # A program that dies of a signal dies so under `tidemark run` too, or run tells it by 128 + N as a shell does.
        if without.status < 0 and under.status == 128 - without.status:
            under.status = without.status
        self.assert_same_behaviour(without, under)
        preloaded = self.preloaded([VICTIM, how])
        self.assert_same_behaviour(without, preloaded)
        return under, preloaded

    def assert_ten_blocks(self, report, count=10):
        site = report.site("site_at_the_end")
        self.assertEqual((count, count * 784), (site.live_count, site.live_bytes))
        self.assert_consistent(report)


class Endings(EndingsCase):
    """Filled below."""


def exit_test(how, status):
    def test(self):
        for run in self.end(how):
            report = run.report()
            self.assertEqual(("exited", status), (report.process["ending"], report.process["exit_status"]))
            self.assertIsNone(report.process.get("signal"))
            self.assert_ten_blocks(report, 11 if how == "pthread_exit" else 10)
    return test


def signal_test(how, number):
    def test(self):
        under, preloaded = self.end(how)
        report = under.report()
        self.assertEqual(("signaled", number), (report.process["ending"], report.process["signal"]))
        self.assert_ten_blocks(report)
        report = preloaded.report()
        self.assertEqual("killed", report.process["ending"], "no `tidemark run` was there to see the signal")
        self.assert_ten_blocks(report)
    return test


for name, wanted in EXITS.items():
    setattr(Endings, f"test_{name}", exit_test(name, wanted))
for name, wanted in SIGNALS.items():
    setattr(Endings, f"test_{name}", signal_test(name, wanted))


class OtherEndings(EndingsCase):
    def test_raw_exit_group(self):
        """No hook sees it: `run` knows by waitpid, a preloaded process has ended without a word."""
        under, preloaded = self.end("exit_group")
        self.assertEqual(("exited", 9), (under.report().process["ending"], under.report().process["exit_status"]))
        self.assertEqual("killed", preloaded.report().process["ending"])
        self.assert_ten_blocks(preloaded.report())

    def test_main_thread_that_vanishes(self):
        for how in (["exit"], ["killed"], ["exit", "worker"], ["killed", "worker"]):
            with self.subTest(how=how):
                command = [support.victim("vanished_main"), *how]
                without = support.plain(command)
                if without.status == 77:
                    self.skipTest("no filter can be put here")
                self.assertEqual(5 if "worker" in how else 7 if how == ["exit"] else -signal.SIGSYS, without.status)
                self.assert_same_behaviour(without, self.preloaded(command, timeout=30))

    def test_daemon(self):
        """Its parent's end is seen, and the child's region is its own."""
        without = support.plain([VICTIM, "daemon"])
        run = self.preloaded([VICTIM, "daemon"], {"child_grace_allocations": "1"}, env={"TIDEMARK_TEST_FOLDER": self.folder})
        self.assert_same_behaviour(without, run)
        self.assertTrue(support.wait_until(lambda: not support.processes_of(self.folder)))
        (parent,) = [report for report in run.reports() if report.pid == run.pid]
        self.assertEqual(("exited", 0), (parent.process["ending"], parent.process["exit_status"]))
        self.assert_ten_blocks(parent)

    def test_execve(self):
        for run in self.end("execve"):
            reports = sorted(run.reports(), key=lambda r: (r.process["ending"] != "replaced", r.path))
            self.assertEqual(2, len(reports), run.files())
            first, second = reports
            self.assertEqual(first.pid, second.pid)
            self.assertEqual("replaced", first.process["ending"])
            self.assertEqual(("exited", 6), (second.process["ending"], second.process["exit_status"]))
            self.assert_ten_blocks(first)
            self.assert_ten_blocks(second, 3)
            self.assertEqual(second.path.removesuffix(".2.tide"), first.path.removesuffix(".tide"))

    def test_stopped_in_a_container(self):
        """Seen from outside it lives, though its heart doesn't beat; once killed it is gone, though that was a moment ago."""
        container = ["unshare", "-pf", "--mount-proc", "--"]
        if os.geteuid() != 0 or os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC or support.plain([*container, "true"]).status != 0:
            self.skipTest("not root of a whole machine")
        folder = self.new_folder()
        preload = ["/usr/bin/env", f"LD_PRELOAD={support.LIBRARY}", f"TIDEMARK_OPTIONS=dir={folder}", "/bin/sleep", "1000"]
        process = subprocess.Popen([*container, *preload], env=support.clean_environment(), stderr=subprocess.DEVNULL)
        path = os.path.join(folder, "sleep.1.tide")
        inside = 0
        try:
            self.assertTrue(support.wait_until(lambda: os.path.exists(path)))
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
                inside = int(children.read())
            time.sleep(0.3)   # for a heartbeat
            os.kill(inside, signal.SIGSTOP)
            time.sleep(6)   # the report calls a silence of more than 5 s one
            text = support.execute([support.TIDEMARK, "report", path], env=support.clean_environment()).out.decode()
            self.assertIn("still running at", text)
            self.assertIn("last sign of life", text)
            os.kill(inside, signal.SIGCONT)
            time.sleep(0.3)
        finally:
            os.kill(inside or process.pid, signal.SIGKILL)
            process.wait(support.PATIENCE)
        self.assertEqual("killed", support.read_report(path).process["ending"])

    def test_names_of_one_that_runs_in_a_container(self):
        """Its number there is another process's here: its files, and what it wrote of generated code, are found by its number here."""
        container = ["unshare", "-pfm", "--mount-proc", "--propagation", "private", "--"]
        if os.geteuid() != 0 or os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC or support.plain([*container, "true"]).status != 0:
            self.skipTest("not root of a whole machine")
        folder = self.new_folder()
        # All that it is made of lies where only it sees it, and its /tmp is its own.
        script = """set -e
            mount -t tmpfs tmpfs /mnt
            cp "$1" "$2" /mnt
            mkdir /mnt/regions
            mount --bind "$3" /mnt/regions
            mount -t tmpfs tmpfs /tmp
            exec /usr/bin/env LD_PRELOAD=/mnt/libtidemark.so TIDEMARK_OPTIONS=dir=/mnt/regions /mnt/generated"""
        process = subprocess.Popen([*container, "/bin/sh", "-c", script, "sh", support.LIBRARY, support.victim("generated"), folder],
                                   env=support.clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.assertEqual(b"ready\n", process.stdout.readline())
            report = support.read_report(os.path.join(folder, "generated.1.tide"))
        finally:
            process.communicate(timeout=support.PATIENCE)
        self.assertEqual(("running", 0), (report.process["ending"], process.returncode))
        (stack,) = report.site("site_called_by_generated").stacks
        self.assertEqual(["site_called_by_generated", "made_just_now", "main"], [frame["function"] for frame in stack["frames"]][:3])

    def test_running(self):
        folder = self.new_folder()
        process = subprocess.Popen(support.tidemark_run(["/bin/sleep", "1000"], folder), env=support.clean_environment())
        try:
            self.assertTrue(support.wait_until(lambda: os.listdir(folder)))
            report = support.read_report(os.path.join(folder, os.listdir(folder)[0]))
            self.assertEqual("running", report.process["ending"])
        finally:
            os.kill(process.pid, signal.SIGTERM)   # passed on to sleep
            self.assertIn(process.wait(support.PATIENCE), (-signal.SIGTERM, 128 + signal.SIGTERM))
        report = support.read_report(os.path.join(folder, os.listdir(folder)[0]))
        self.assertEqual(("signaled", signal.SIGTERM), (report.process["ending"], report.process["signal"]))
