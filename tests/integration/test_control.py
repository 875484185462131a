"""stats, cleanup, snapshot, stop and set on running processes."""
import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time

import support
from test_keeper import FAST, MIB, Grower


def tidemark(*arguments):
    return support.execute([support.TIDEMARK, *map(str, arguments)], env=support.clean_environment())


PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 17, 0x4206, 0x4207


@contextlib.contextmanager
def tracer(pid, pause):
    """Stops the thread as a debugger does, again and again: `pause` seconds each time. Gives whether it can."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    answer, stopped, done = [], threading.Event(), threading.Event()

    def trace():   # all of it in one thread: the kernel's tracer is a thread, and what it traces goes on when it ends
        answer.append(ptrace(PTRACE_SEIZE, pid, None, None) == 0)
        while answer[0] and not done.is_set():
            ptrace(PTRACE_INTERRUPT, pid, None, None)
            os.waitpid(pid, 0x40000000)   # __WALL
            stopped.set()
            done.wait(pause)
            ptrace(PTRACE_CONT, pid, None, None)
        stopped.set()
        if answer[0]:   # who waits for this thread's end may trace next, which is before the kernel lets go by itself
            ptrace(PTRACE_INTERRUPT, pid, None, None)
            os.waitpid(pid, 0x40000000)
            ptrace(PTRACE_DETACH, pid, None, None)

    thread = threading.Thread(target=trace)
    thread.start()
    try:
        stopped.wait(support.PATIENCE)
        yield answer[0]
    finally:
        done.set()
        thread.join()


def has_shim(pid):
    with open(f"/proc/{pid}/maps") as file:
        return os.path.basename(support.LIBRARY) in file.read()


class Controls(support.TestCase):
    def grower(self, **options):
        grower = Grower(self, **{**FAST, **options})
        return grower, grower.report().pid

    def ask(self, *arguments):
        done = tidemark(*arguments)
        self.assertEqual((0, b""), (done.status, done.err), arguments)
        return done.out.decode()

    def refused(self, words, *arguments):
        """One line that says why."""
        done = tidemark(*arguments)
        self.assertEqual((2, b""), (done.status, done.out), done.err)
        self.assertEqual(1, done.err.count(b"\n"), done.err)
        self.assertIn(words, done.err.decode())

    def test_stats(self):
        grower, pid = self.grower()
        grower.wait_for_baseline()
        grower.tell(f"leak {40 * MIB}")
        stats = json.loads(self.ask("stats", pid, "--json"))
        with open(f"/proc/{pid}/statm") as file:
            vms, rss = (int(n) * 4096 for n in file.read().split()[:2])
        self.assertLess(abs(stats["usage"]["rss_mb"] * MIB - rss), 0.02 * rss)
        self.assertLess(abs(stats["usage"]["vms_mb"] * MIB - vms), 0.02 * vms)
        self.assertGreater(stats["usage"]["available_mb"], 0)
        self.assertLess(stats["usage"]["percent"], 100)
        self.assertGreater(stats["increase"]["rss_increase_mb"], 39)
        self.assertLess(stats["increase"]["rss_increase_mb"], 60)
        share = stats["increase"]["rss_increase_mb"] / stats["usage"]["rss_mb"]
        self.assertAlmostEqual(share, stats["increase"]["percent_increase"] / stats["usage"]["percent"], places=6)
        self.assertIn("RSS", self.ask("stats", pid))
        grower.quit()

    def test_after_a_thread_vanished(self):
        """Nothing reads what was its stack or its thread-local storage."""
        for how in ("exit", "killed"):
            with self.subTest(how=how):
                folder = self.new_folder()
                environment = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}:sample_interval=100ms"})
                process = subprocess.Popen([support.victim("vanished_thread"), how], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self.addCleanup(process.kill)
                if not process.stdout.readline():
                    self.skipTest("not possible here")
                for command in ("stats", "cleanup") + (("snapshot",) if how == "exit" else ()):   # under a filter no file is made
                    self.ask(command, process.pid)
                process.communicate(timeout=support.PATIENCE)
                self.assertEqual(0, process.returncode)
                (path,) = support.regions_in(folder)
                report = support.read_report(path)
                self.assert_consistent(report)
                self.assertLess(0, report.coverage["allocator_unread"])

    def test_cleanup(self):
        grower, pid = self.grower(cleanup_interval="0", dirty_decay_ms="3600000")
        grower.tell(f"leak {60 * MIB}")
        grower.tell("drop")
        purge = json.loads(self.ask("cleanup", pid, "--json"))["purge"]
        self.assertGreater(purge["bytes_returned"], 50 * MIB)
        self.assertGreater(purge["before"]["dirty"], 50 * MIB)
        self.assertLess(purge["after"]["dirty"], MIB)
        self.assertIn("returned", self.ask("cleanup", pid))
        report = grower.quit()
        self.assertEqual(["control", "control"], [p["reason"] for p in report.raw["purges"]])

    def stop(self, pid):
        """Until each of its threads has stopped: one that runs on another processor goes on for a moment."""
        def all_stopped():
            states = []
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/stat") as file:
                    states.append(file.read().rsplit(")", 1)[1].split()[0])
            return set(states) == {"T"}

        os.kill(pid, signal.SIGSTOP)
        self.assertTrue(support.wait_until(all_stopped))

    def test_many_cleanups_at_once(self):
        grower, pid = self.grower()
        clients = [subprocess.Popen([support.TIDEMARK, "cleanup", str(pid), "--json"], stdout=subprocess.DEVNULL) for _ in range(20)]
        self.assertEqual([0] * 20, [client.wait(support.PATIENCE) for client in clients])
        self.assertEqual(20, grower.quit().raw["purge_totals"]["count"])

    def test_a_client_that_dies_leaves_the_box_usable(self):
        grower, pid = self.grower()
        self.stop(pid)
        client = subprocess.Popen([support.TIDEMARK, "cleanup", str(pid)], stderr=subprocess.DEVNULL)
        time.sleep(0.05)
        client.kill()
        client.wait()
        os.kill(pid, signal.SIGCONT)
        self.ask("cleanup", pid)
        grower.quit()

    def test_snapshot(self):
        grower, pid = self.grower()
        grower.tell(f"leak {10 * MIB}")
        copy = os.path.join(self.folder, "copy.tide")
        self.assertEqual(copy + "\n", self.ask("snapshot", pid, "-o", copy))
        grower.tell("drop")
        report = support.read_report(copy)
        self.assertEqual([], report.contradictions())
        self.assertTrue(report.process["snapshot"])
        self.assertEqual("running", report.process["ending"])
        text = self.ask("report", copy)
        self.assertIn("a snapshot of the running process", text)
        self.assertIn(f"tidemark snapshot {pid}", text)
        self.assertNotIn("live now", text)
        self.assertIn(f"tidemark cleanup {pid}", self.ask("report", grower.path()))
        self.assertEqual(2560, report.under("leak").live_count - 1, "blocks, and the array that holds them")
        beside = self.ask("snapshot", pid).strip()
        self.assertEqual(os.path.dirname(grower.path()), os.path.dirname(beside))
        self.assertEqual(1, support.read_report(beside).under("leak").live_count)
        grower.quit()

    def test_a_snapshot_is_not_put_in_the_place_of_its_region(self):
        grower, pid = self.grower()
        region = grower.path()
        for name, link in (("symbolic.tide", os.symlink), ("hard.tide", os.link)):
            other = os.path.join(self.folder, name)
            link(region, other)
            self.refused("name another file", "snapshot", pid, "-o", other)
            os.unlink(other)
        self.refused(f"{region} is what process {pid} writes to", "snapshot", pid, "-o", region)
        self.assertEqual([os.path.basename(region)], os.listdir(grower.folder), "no copy is left")
        grower.tell(f"leak {10 * MIB}")
        self.assertLessEqual(2560, grower.quit().under("leak").live_count)

    def test_a_snapshot_on_a_full_disk(self):
        grower, pid = self.grower()
        with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
            if os.stat(elsewhere).st_dev == os.stat(grower.folder).st_dev:
                self.skipTest("no second file system")
            copy = os.path.join(elsewhere, "copy.tide")

            def fill():   # to the command, all disks are
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

            command = [support.TIDEMARK, "snapshot", str(pid), "-o", copy]
            done = support.execute(command, env=support.clean_environment(), preexec_fn=fill, restore_signals=False)
            self.assertEqual((2, b""), (done.status, done.out))
            self.assertRegex(done.err.decode(), rf"^tidemark: {copy}: .*; the snapshot is in {grower.folder}/.*\n$")
            self.assertEqual([], os.listdir(elsewhere))
            self.assertTrue(support.read_report(done.err.decode().split()[-1]).process["snapshot"])
            self.ask("snapshot", pid, "-o", copy)
        grower.quit()

    def test_snapshots_of_a_storm(self):
        """Threads allocate all the while: each copy is of one moment."""
        folder = self.new_folder()
        env = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}:follow=none"})
        plugins = [support.victim(f"libplugin_{name}.so") for name in ("left", "right")]
        process = subprocess.Popen([support.victim("storm"), "1000000", *plugins], env=env, stdout=subprocess.DEVNULL)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        pid = process.pid
        while not any(f".{pid}." in name for name in os.listdir(folder)):
            time.sleep(0.01)
        allocated = 0
        for number in range(10):
            copy = os.path.join(self.folder, f"{number}.tide")
            self.ask("snapshot", pid, "-o", copy)
            report = support.read_report(copy)
            self.assertEqual([], report.contradictions())
            self.assertGreater(report.totals["allocated_count"], allocated)
            allocated = report.totals["allocated_count"]

    def test_a_log_is_where_the_process_is(self):
        grower, pid = self.grower()
        grower.wait_for_baseline()
        name = f"tidemark-test-{pid}.log"
        path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), name)
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        self.ask("set", pid, f"log={name}")
        grower.tell(f"leak {12 * MIB}")
        grower.wait_for(lambda raw: raw["warnings"], "a warning")
        grower.wait_for_samples(2)
        self.assertEqual({}, grower.quit().losses())
        self.assertTrue(os.path.exists(path))

    def test_a_child_of_fork(self):
        """It has its parent's memory: what is asked of it must not reach its parent."""
        folder = self.new_folder()
        source = "import os, sys, time; pid = os.fork(); pid or (print(os.getpid(), flush=True), sys.stdin.read(), os._exit(0)); os.waitpid(pid, 0)"
        process = subprocess.Popen(support.tidemark_run(["/usr/bin/python3", "-c", source], folder), env=support.clean_environment(),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(lambda: (process.kill(), process.communicate()))
        child = int(process.stdout.readline())
        while not any(f".{child}." in name for name in os.listdir(folder)):
            time.sleep(0.01)
        self.ask("cleanup", child)
        process.communicate(timeout=support.PATIENCE)
        purges = {}
        for name in os.listdir(folder):
            report = support.read_report(os.path.join(folder, name), top=1)
            purges[report.pid == child] = report.raw["purge_totals"]["count"]
        self.assertEqual({True: 1, False: 0}, purges)

    def test_the_main_thread_has_ended(self):
        """By pthread_exit: a zombie without memory, while another thread goes on."""
        folder = self.new_folder()
        process = subprocess.Popen([support.victim("endings"), "asked_last_thread"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}"}))
        self.addCleanup(lambda: (process.kill(), process.communicate()))
        pid = process.pid

        def main_is_gone():
            with open(f"/proc/{pid}/maps") as file:
                return not file.read()

        self.assertTrue(support.wait_until(main_is_gone, 20))
        stats = json.loads(self.ask("stats", pid, "--json"))
        self.assertGreaterEqual(stats["heap"]["live_count"], 10)
        for bytes_of in (stats["now"]["rss"], stats["now"]["vms"], stats["ledger"]["mappings"]):
            self.assertGreater(bytes_of, 0, stats)
        self.assertIsNone(stats["now"]["fds"], "the main thread has none any more")
        self.ask("cleanup", pid)
        self.ask("set", pid, "sample_interval=200ms")
        process.communicate(timeout=support.PATIENCE)
        self.assertEqual(0, process.returncode)

    def test_a_service_of_systemd(self):
        """Under its usual filter, all that tidemark does."""
        filtered = [support.victim("service_filter")]
        if support.plain([*filtered, "true"]).status == 77:
            self.skipTest("no filter can be set here")
        grower = Grower(self, before=filtered, **FAST, cleanup_interval="200ms", log=os.path.join(self.folder, "log"))
        pid = grower.report().pid
        grower.wait_for_baseline()
        grower.tell(f"leak {12 * MIB}")
        grower.wait_for(lambda raw: raw["warnings"], "a warning")
        self.assert_explained(json.loads(self.ask("stats", pid, "--json"))["ledger"])
        self.ask("cleanup", pid)
        self.ask("snapshot", pid)
        self.ask("set", pid, "sample_interval=200ms")
        grower.wait_for(lambda raw: raw["purge_totals"]["count"] >= 2, "purges")
        self.assertEqual({}, grower.quit().losses())

    def test_a_folder_with_a_long_name(self):
        folder = os.path.join(self.folder, "a" * 200, "b" * 200)
        os.makedirs(folder)
        grower = Grower(self, folder, **FAST)
        self.ask("snapshot", grower.report().pid)
        grower.quit()

    def test_many_snapshots(self):
        """Some of them meet the keeper's tick."""
        grower, pid = self.grower()
        grower.tell("stacks 100000")   # so much to copy that the program is frozen a good part of the time
        copy = os.path.join(self.folder, "copy.tide")
        for _ in range(60):
            self.ask("snapshot", pid, "-o", copy)
        self.ask("stats", pid)
        grower.quit()

    def test_set(self):
        grower, pid = self.grower(cleanup_interval="0", warn_increase="0")
        self.ask("set", pid, "cleanup_interval=200ms")
        grower.wait_for(lambda raw: raw["purge_totals"]["count"] >= 2, "purges")
        self.ask("set", pid, "warn_increase=10M")
        grower.tell(f"leak {12 * MIB}")
        grower.wait_for(lambda raw: raw["warnings"], "a warning")
        self.refused("cannot be changed", "set", pid, "region_size=1M")
        self.refused("not understood", "set", pid, "cleanup_interval=soon")
        self.refused("cannot be changed", "set", pid, "no_such_option=1")
        self.refused("not understood", "set", pid, "cleanup_interval=1:region_size=1M")
        self.refused("not understood", "set", pid, "cleanup_interval")
        grower.quit()

    def test_stop(self):
        grower, pid = self.grower()
        grower.tell(f"leak {5 * MIB}")
        self.ask("stop", pid)
        grower.tell(f"leak {5 * MIB}")
        grower.tell("drop")
        self.refused("ended by `tidemark stop`", "stats", pid)
        grower.quit()
        report = support.read_report(grower.path())
        self.assertTrue(report.process["stopped"])
        self.assertEqual(1280, report.under("leak").live_count - 1, "as of then")

    def test_targets_that_cannot_answer(self):
        grower, pid = self.grower()
        self.stop(pid)
        self.refused("is stopped", "stats", pid)
        os.kill(pid, signal.SIGCONT)
        self.ask("stats", pid)
        grower.quit()
        self.refused("there is no process", "stats", pid)
        zombie = subprocess.Popen(["true"])
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        self.refused("has ended", "stats", zombie.pid)
        zombie.wait()
        self.refused("not recorded", "cleanup", os.getpid())
        self.refused("there is no process", "snapshot", 4_000_000)

    def test_a_target_that_is_ending(self):
        """The first process of a pid namespace waits, without memory, until all others there were waited for."""
        source = """
import ctypes, subprocess, sys
if ctypes.CDLL(None).unshare(0x20000000) != 0:   # CLONE_NEWPID
    sys.exit()
first, other = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
print(first.pid, flush=True)
sys.stdin.read()
"""
        with subprocess.Popen(["/usr/bin/python3", "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            line = parent.stdout.readline()
            if not line:
                self.skipTest("no pid namespace can be made here")
            pid = int(line)

            def has_no_memory():
                with open(f"/proc/{pid}/status") as file:
                    return "VmSize" not in file.read()

            self.assertFalse(has_no_memory())
            os.kill(pid, signal.SIGKILL)
            self.assertTrue(support.wait_until(has_no_memory))
            self.refused(f"process {pid} is ending", "stats", pid)
            parent.kill()

    def test_a_thread_of_the_kernel(self):
        with contextlib.suppress(OSError), open("/proc/2/comm") as file:
            if file.read() == "kthreadd\n":
                self.refused("process 2 is a thread of the kernel", "stats", 2)
                return
        self.skipTest("none is to be seen here")

    def test_targets_without_a_region(self):
        """Which of the reasons it is, for what to do about it differs."""
        for options, words in {"dir=/proc/nowhere": "could not make one in /proc/nowhere ", 'region_size=64M:dir="/proc/no:where":follow=all': "in /proc/no:where ",
                               "region_size=64M:enable=0": "in /var/tmp "}.items():
            env = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": options})
            with subprocess.Popen(["sleep", "60"], env=env, cwd="/proc") as process:
                support.wait_until(lambda: has_shim(process.pid))
                self.refused(words, "stats", process.pid)
                process.kill()
        grower, pid = self.grower()
        os.unlink(grower.path())
        self.refused(f"was removed from {grower.folder}", "stats", pid)

    def test_traced_targets(self):
        """strace stops a process at each system call, for a moment: that is no reason to give up; a debugger that holds it is one."""
        grower, pid = self.grower()
        with tracer(pid, pause=0.005) as possible:
            if not possible:
                self.skipTest("ptrace is not possible here")
            for _ in range(10):
                self.ask("stats", pid)
        debugger = contextlib.ExitStack()
        with debugger:
            for thread in sorted(os.listdir(f"/proc/{pid}/task")):
                debugger.enter_context(tracer(int(thread), pause=None))
            self.refused("is stopped", "stats", pid)
        self.ask("stats", pid)
        grower.quit()

    def test_what_is_no_pid(self):
        for command in ("stats", "cleanup", "snapshot", "stop", "set"):
            for pid in ("abc", "0", "-5", "1.5", "0x10", "", "999999999999"):
                with self.subTest(command=command, pid=pid):
                    setting = ["log="] if command == "set" else []
                    done = tidemark(command, pid, *setting)
                    self.assertEqual((2, b"", f'tidemark: PID: "{pid}" is no number of a process (tidemark --help)\n'),
                                     (done.status, done.out, done.err.decode()))

    def test_another_time_namespace(self):
        """The kernel tells when a process began in the time of who asks."""
        shifted = ["unshare", "-T", "--fork", "--boottime", "1000000"]
        if support.plain([*shifted, "true"]).status != 0:
            self.skipTest("no time namespace can be made here")
        grower = Grower(self, before=shifted, **FAST)
        report = grower.report()
        self.assertEqual("running", report.process["ending"])
        for command in ("stats", "cleanup", "snapshot"):
            self.ask(command, report.pid)
        self.assertEqual("exited", grower.quit().process["ending"])

    def test_another_user(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        grower, pid = self.grower()
        done = support.execute([support.TIDEMARK, "stats", str(pid)], env=support.clean_environment(), user=65534, cwd="/")
        self.assertEqual((2, b""), (done.status, done.out))
        self.assertRegex(done.err.decode(), "not yours|only the region's owner")
        grower.quit()
