"""What the regions of a folder take together where no launcher looks after them, and whose run a process is of that was started with a clean environment."""
import errno
import glob
import os
import resource
import signal
import struct
import subprocess
import unittest

import support
from test_keeper import MIB

SHORT = support.victim("single_thread")   # makes 10 000 allocations and ends
KILLED = "PYTHONMALLOC=malloc /usr/bin/python3 -S -c 'import os; os.kill(os.getpid(), 9)'"   # thousands of allocations; what it leaves keeps its size
CLEAN = 'env -i LD_PRELOAD="$LD_PRELOAD" TIDEMARK_OPTIONS="$TIDEMARK_OPTIONS"'   # as dovecot's master does
SMALL = {"region_size": "16M", "child_region_size": "8M"}


class Header:
    """Words of a region's header; their offsets are those of format/region.h."""
    PID, PID_START, ENDING = 200, 216, 360

    def __init__(self, path):
        self.path = path

    def read(self, offset, form):
        with open(self.path, "rb") as file:
            file.seek(offset)
            return struct.unpack(form, file.read(struct.calcsize(form)))[0]

    def write(self, offset, form, value):
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(struct.pack(form, value))


def start_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])


class Runs(support.TestCase):
    """No TIDEMARK_RUN: the nearest recorded ancestor's, if it lives."""

    def shell(self, script, options=None, **how):
        run = self.preloaded(["/bin/sh", "-c", script], {**SMALL, **(options or {})}, **how)
        self.assertEqual((0, b""), (run.status, run.err))
        return run

    def by_size(self, run):
        reports = sorted(run.reports(), key=lambda report: os.path.getsize(report.path))
        return reports[:-1], reports[-1]

    def test_a_clean_environment_makes_no_root(self):
        run = self.shell(f"for i in 1 2; do {CLEAN} {SHORT} >/dev/null; done; :")
        children, root = self.by_size(run)
        self.assertEqual([8 * MIB] * 2, [os.path.getsize(child.path) for child in children])
        self.assertEqual({root.process["run_id"]}, {child.process["run_id"] for child in children})
        self.assertEqual({root.pid}, {child.process["ppid"] for child in children})

    def test_nor_where_a_launcher_has_the_ledger(self):
        run = self.tracked(["/bin/sh", "-c", f"for i in 1 2 3; do {CLEAN} {SHORT} >/dev/null; done; :"], {**SMALL, "regions_max": "20M"})
        self.assertEqual(0, run.status, run.err)
        self.assertEqual(1, len({report.process["run_id"] for report in run.reports()}))
        self.assertLess(len(run.files()), 4)   # the launcher may have trimmed one

    def test_it_has_its_grace(self):
        run = self.shell(f"for i in 1 2 3; do {CLEAN} /bin/true; done; :", {"child_grace": "1h"})
        self.assertEqual(1, len(run.files()), run.files())

    def test_and_is_followed_as_options_say(self):
        run = self.shell(f"{CLEAN} {SHORT} >/dev/null; :", {"follow": "none"})
        self.assertEqual(1, len(run.files()), run.files())

    def test_its_own_children_find_the_run_by_the_variable(self):
        run = self.shell(f"{CLEAN} /bin/sh -c 'echo \"$TIDEMARK_RUN\"'; :")
        (report,) = run.reports()
        self.assertEqual(f"v1,{report.process['run_id']},0,{report.path}", run.out.decode().strip())

    def test_regions_max_holds_for_them(self):
        run = self.shell(f"for i in 1 2 3 4; do {CLEAN} {KILLED}; done 2>/dev/null; :", {"regions_max": "34M"})
        self.assertEqual(3, len(run.files()), run.files())
        _, root = self.by_size(run)
        self.assertEqual(2, root.coverage["children_over_limit"])

    def test_an_ancestor_that_is_another_process_now(self):
        """Its region bears our parent's pid, and as far as that tells it still runs."""
        folder = self.new_folder()
        (path,) = self.shell(":", folder=folder).files()
        header = Header(path)
        (process,) = (report.process for report in [support.read_report(path)])
        self.assertEqual(process["pid"], header.read(Header.PID, "i"))
        self.assertEqual(1, header.read(Header.ENDING, "I"), "exited")
        header.write(Header.PID, "i", os.getpid())
        claimed = f"{os.path.dirname(path)}/claimed.{os.getpid()}.tide"
        os.rename(path, claimed)
        header = Header(claimed)

        def joins(start, ending):
            header.write(Header.PID_START, "Q", start)
            header.write(Header.ENDING, "I", ending)
            (made,) = set(self.shell(":", {"child_grace_allocations": "1"}, folder=folder).files()) - {claimed}
            result = support.read_report(made).process["run_id"] == process["run_id"]
            os.unlink(made)
            return result

        self.assertTrue(joins(start_of(os.getpid()), 0))
        self.assertFalse(joins(start_of(os.getpid()) - 1, 0), "the pid was given to another process")
        self.assertFalse(joins(start_of(os.getpid()), 3), "that image was replaced")


class Folders(support.TestCase):
    """Each of these begins a run of its own."""
    OPTIONS = {"region_size": "16M", "regions_max": "40M"}

    def fill(self, folder):
        """As a service does that ends without a word: its regions keep their size."""
        script = f"{SHORT} >/dev/null; kill -9 $$"
        before = glob.glob(f"{folder}/*.tide")
        run = self.preloaded(["/bin/sh", "-c", script], {**self.OPTIONS, "follow": "none"}, folder=folder)
        self.assertEqual(-9, run.status)
        return sorted(set(run.files()) - set(before))

    def report(self, *arguments):
        return support.execute([support.TIDEMARK, "report", *arguments], env=support.clean_environment())

    def test_regions_max_is_for_the_folder(self):
        folder = self.new_folder()
        self.assertEqual([1, 1, 0, 0], [len(self.fill(folder)) for _ in range(4)])
        os.unlink(glob.glob(f"{folder}/*.tide")[0])
        self.assertEqual(1, len(self.fill(folder)))

    def test_nor_do_its_children_pass_it(self):
        """But what was removed meanwhile is not counted any more."""
        folder = self.new_folder()
        (old,) = self.fill(folder)
        run = self.preloaded(["/bin/sh", "-c", f"{SHORT} >/dev/null; echo {folder}/*; rm {old}; {SHORT} >/dev/null; :"], {**self.OPTIONS, "child_region_size": "16M"},
                             folder=folder)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(2, len(run.out.split()), "that of the first was refused")
        reports = {report.process["name"]: report for report in run.reports()}
        self.assertEqual({"sh", "single_thread"}, set(reports))
        self.assertEqual(1, reports["sh"].coverage["children_over_limit"])

    def test_a_report_of_the_folder_says_so(self):
        folder = self.new_folder()
        self.fill(folder)
        self.assertEqual((0, b""), (lambda out: (out.status, out.err))(self.report(folder)))
        self.fill(folder)
        for arguments in ([], ["--json"]):
            out = self.report(folder + "/", *arguments)
            self.assertEqual(0, out.status)
            self.assertIn(b"the 2 regions in this folder take 32.0 MiB, and another of 16.0 MiB would pass regions_max (40.0 MiB)", out.err)
        self.assertEqual(b"", self.report(*glob.glob(f"{folder}/*.tide")).err)

    def test_a_launchers_run_is_apart(self):
        folder = self.new_folder()
        self.fill(folder), self.fill(folder)
        run = self.tracked([SHORT], self.OPTIONS, folder=folder)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(3, len(run.files()))
        self.assertEqual(b"", self.report(folder).err)


class Tails(support.TestCase):
    """Who ends by itself gives back what its region never used."""

    def on_disk(self, path):
        return os.stat(path).st_blocks * 512

    def assert_small(self, run, count):
        self.assertEqual(0, run.status, run.err)
        self.assertEqual(count, len(run.files()), run.files())
        for report in run.reports():
            self.assertLess(self.on_disk(report.path), 3 * MIB, report.path)   # one of which was left open for what follows
            self.assertEqual("exited", report.process["ending"])
            self.assert_consistent(report)

    def test_of_each_start_little_stays(self):
        folder = self.new_folder()
        for _ in range(5):
            run = self.preloaded([SHORT], {"region_size": "16M", "regions_max": "24M"}, folder=folder)
        self.assert_small(run, 5)
        self.assertEqual({16 * MIB}, {os.path.getsize(path) for path in run.files()}, "the size stays")

    def test_the_records_stay(self):
        run = self.preloaded([SHORT])
        self.assert_table(run)
        self.assert_small(run, 1)

    def test_children_make_room_for_others(self):
        run = self.preloaded(["/bin/sh", "-c", f"for i in 1 2 3 4; do {SHORT} >/dev/null; done; :"], {**SMALL, "regions_max": "31M"})
        self.assert_small(run, 5)

    def test_by_exit_at_once(self):
        for end in ("os._exit(0)", "ctypes.CDLL(None).quick_exit(0)"):
            with self.subTest(end=end):
                self.assert_small(self.preloaded(["/usr/bin/python3", "-c", f"import ctypes, os; {end}"]), 1)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_daemon_that_could_not_be(self):
        """The program goes on, and all that it does is recorded."""
        def confine():
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            os.setresuid(65534, 65534, 65534)
        folder = self.new_folder()
        os.chmod(self.folder, 0o711)
        os.chmod(folder, 0o777)
        code = "import ctypes; failed = ctypes.CDLL(None, use_errno=True).daemon(1, 1), ctypes.get_errno(); import json, decimal, email.message; print(*failed)"
        run = self.preloaded(["/usr/bin/python3", "-c", code], {"region_size": "16M"}, folder=folder, preexec_fn=confine, env={"PYTHONMALLOC": "malloc"})
        self.assertEqual((0, f"-1 {errno.EAGAIN}\n".encode(), b""), (run.status, run.out, run.err))
        self.assertEqual(0, run.report().coverage["overflow_allocations"])

    def test_one_that_left_daemon_by_a_jump(self):
        """It goes on: its next child is not the daemon."""
        run = self.preloaded([support.victim("daemon_left")], {"region_size": "16M"})
        self.assertEqual((-9, b""), (run.status, run.err))
        report = run.report()
        self.assertGreaterEqual(self.on_disk(report.path), 16 * MIB)
        self.assertEqual("killed", report.process["ending"])

    def test_a_daemons_parent(self):
        """It ends inside libc, by no call that could be seen."""
        self.assert_small(self.preloaded([support.victim("endings"), "daemon"], {"region_size": "16M"}), 1)

    def test_a_daemon_whose_launcher_has_gone(self):
        """Nobody will cut its file, nor those of what it starts."""
        fifo = f"{self.folder}/go"
        os.mkfifo(fifo)
        script = f"(read go; {SHORT} >/dev/null; :) <{fifo} >/dev/null 2>&1 &"
        run = self.tracked(["/bin/sh", "-c", script], {**SMALL, "child_grace_allocations": "1"}, env={"TIDEMARK_TEST_FOLDER": self.folder})
        with open(fifo, "w") as go:
            go.write("on\n")
        self.assertTrue(support.wait_until(lambda: not support.processes_of(self.folder)))
        self.assert_small(run, 3)
        self.assertEqual(2, sum(os.path.getsize(path) == 8 * MIB for path in run.files()), "not cut")

    def test_where_all_lies_in_memory(self):
        if support.plain(["unshare", "-m", "true"]).status != 0:
            self.skipTest("no mount namespaces here")
        folder = self.new_folder()
        victim = f"LD_PRELOAD={support.LIBRARY} TIDEMARK_OPTIONS=dir={folder}:region_size=16M {support.victim('many_threads')}"
        script = f"mount -t tmpfs -o size=17M none {folder} && {victim} >/dev/null; echo $?; stat -c %b {folder}/*.tide"
        out = support.plain(["unshare", "-m", "--propagation", "private", "/bin/sh", "-c", script])
        status, blocks = out.out.split()
        self.assertEqual(b"0", status, out.err)
        self.assertLess(int(blocks) * 512, 8 * MIB)

    def test_not_of_one_that_is_killed(self):
        run = self.preloaded(["/bin/sh", "-c", "kill -9 $$"], {"region_size": "16M"})
        (path,) = run.files()
        self.assertGreaterEqual(self.on_disk(path), 16 * MIB)


class Launched(support.TestCase):
    """The launcher's ledger has what its run's regions take, whoever gave back what they did not use."""
    FORKS = "PYTHONMALLOC=malloc /usr/bin/python3 -S -c 'import os; pid = os.fork(); pid and os.waitpid(pid, 0); os._exit(0)'"

    def launch(self, commands, **options):
        """A shell that waits for a line before it starts them, and after; what it ran in; its launcher's ledger."""
        folder = self.new_folder()
        script = f'echo "$TIDEMARK_RUN"; read go; {commands}; echo done; read go'
        command = support.tidemark_run(["/bin/sh", "-c", script], folder, **SMALL, child_grace_allocations="1", **options)
        process = subprocess.Popen(command, env=support.clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.send_signal, signal.SIGCONT)
        return process, folder, process.stdout.readline().decode().strip().split(",", 3)[3]

    def run_without_its_launcher(self, process):
        """Nobody cuts anything meanwhile."""
        process.send_signal(signal.SIGSTOP)
        self.go_on(process)
        self.assertEqual(b"done\n", process.stdout.readline())

    def go_on(self, process):
        process.stdin.write(b"\n")
        process.stdin.flush()

    def end(self, process):
        process.send_signal(signal.SIGCONT)
        said = process.communicate(b"\n", timeout=support.PATIENCE)
        self.assertEqual((0, (b"", b"")), (process.returncode, said))

    def used(self, ledger):
        with open(ledger, "rb") as file:   # format/ledger.h: RunLedger::used_bytes
            return struct.unpack("<24xQ", file.read(32))[0]

    def assert_ledger_is_right(self, ledger, files):
        """But for what the file system keeps of each beside it."""
        on_disk = sum(os.stat(path).st_blocks * 512 for path in files)
        self.assertLess(abs(self.used(ledger) - on_disk), len(files) * 64 * 1024, (self.used(ledger), on_disk))

    def test_short_children_make_room_for_others(self):
        process, folder, _ = self.launch(f"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do {SHORT} >&2; done 2>/dev/null", regions_max="48M")
        self.run_without_its_launcher(process)
        self.assertEqual(13, len(support.regions_in(folder)))
        self.end(process)

    def test_what_killed_children_left_makes_room_for_others(self):
        """But not what a living one has."""
        fifo = f"{self.folder}/end"
        os.mkfifo(fifo)
        self.addCleanup(lambda: os.close(os.open(fifo, os.O_RDWR)))
        living = f"PYTHONMALLOC=malloc /usr/bin/python3 -S -c 'import os; open(\"{self.folder}/up\", \"w\"); open(\"{fifo}\").read()' >/dev/null 2>&1"
        commands = f"{living} & while ! [ -e {self.folder}/up ]; do :; done; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do {KILLED}; done 2>/dev/null"
        process, folder, ledger = self.launch(commands, regions_max="48M")
        self.run_without_its_launcher(process)
        files = support.regions_in(folder)
        self.assertEqual(15, len(files), "two of the living one, which was the shell's child before")
        self.assert_ledger_is_right(ledger, files)
        alive = lambda path: os.path.exists(f"/proc/{Header(path).read(Header.PID, 'i')}")   # noqa: E731
        living = [path for path in files if os.path.getsize(path) == 16 * MIB or (alive(path) and "python3" in os.path.basename(path))]
        self.assertEqual([8 * MIB, 16 * MIB], sorted(os.stat(path).st_blocks * 512 // MIB * MIB for path in living))
        process.send_signal(signal.SIGCONT)
        children = [path for path in files if path not in living]
        self.assertTrue(support.wait_until(lambda: all(os.path.getsize(path) < 8 * MIB for path in children)))
        self.assertTrue(support.wait_until(lambda: self.used(ledger) == 24 * MIB + sum(map(os.path.getsize, children))), "nothing twice")
        with open(fifo, "w"):
            pass
        self.end(process)

    def test_one_that_was_killed_while_its_region_was_made(self):
        """What it had booked is found by who finds no room."""
        victim = support.victim("killed_at_birth")
        process, folder, ledger = self.launch(f"for i in 1 2 3; do {victim} || echo $?; done 2>/dev/null; {SHORT} >/dev/null", regions_max="34M")
        process.send_signal(signal.SIGSTOP)
        self.go_on(process)
        said = process.stdout.readline()
        if said == b"77\n":
            process.kill()
            self.skipTest("no filter can be put here")
        self.assertEqual(b"done\n", said)
        files = support.regions_in(folder)
        self.assertEqual(2, len(files), "the shell's, and another program's: their parents allocate nothing")
        self.assertLess(self.used(ledger), 34 * MIB)
        self.end(process)

    def test_nothing_is_taken_off_twice(self):
        ends = {"exit": f"{SHORT} >/dev/null", "forked": self.FORKS, "killed": f"{KILLED} 2>/dev/null",
                "replaced": f"/bin/sh -c 'read x </dev/null; exec {SHORT}' >/dev/null",
                "vfork": "/usr/bin/python3 -S -c 'import os; os.waitpid(os.posix_spawn(\"/bin/true\", [\"true\"], os.environ), 0)'"}
        for how, command in ends.items():
            with self.subTest(how=how):
                process, folder, ledger = self.launch(f"for i in 1 2 3; do {command}; done 2>/dev/null", regions_max="160M")
                self.run_without_its_launcher(process)
                files = support.regions_in(folder)
                children = [path for path in files if os.path.getsize(path) == 8 * MIB]
                self.assertEqual(len(files) - 1, len(children))
                self.assertGreaterEqual(len(children), 3)
                self.assert_ledger_is_right(ledger, files)
                process.send_signal(signal.SIGCONT)
                left = lambda: 16 * MIB + sum(map(os.path.getsize, children))   # noqa: E731
                self.assertTrue(support.wait_until(lambda: all(os.path.getsize(path) < 8 * MIB for path in children) and self.used(ledger) == left()),
                                (self.used(ledger), left()))
                self.end(process)
