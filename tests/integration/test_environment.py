"""Bad surroundings: the program runs on, with the same status and output, and `tidemark run` says why nothing was recorded.
Issue 3, "Must hold" 5."""
import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import unittest

import support

VICTIM = support.victim("single_thread")
HARD_LIFE = support.victim("hard_life")
SKIP = 77  # the victim's word for: this machine does not let me


def own_lines(err):
    """What `tidemark run` said, apart from the program."""
    return [line for line in err.decode().splitlines() if line.startswith("tidemark: ")]


def table_only(out):
    """A victim's output without the pids in it."""
    return b"\n".join(line.split(b",", 1)[-1] for line in out.splitlines())


class Surroundings(support.TestCase):
    @contextlib.contextmanager
    def mounted(self, options, kind="tmpfs", what="tidemark-test"):
        folder = self.new_folder()
        done = subprocess.run(["mount", "-t", kind, "-o", options, what, folder], capture_output=True)
        if done.returncode != 0:
            self.skipTest(f"mount is not permitted: {done.stderr.decode().strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)

    def unrecorded(self, folder, word, options=None, command=(VICTIM,), **how):
        """Under run: same output, no region, and one line that contains the word. Preloaded: the same without a word."""
        command = list(command)
        without = support.plain(command, **how)
        under = self.tracked(command, options, folder=folder, **how)
        said = own_lines(under.err)
        self.assertEqual(without.status, under.status, under.err)
        self.assertEqual(table_only(without.out), table_only(under.out))
        self.assertEqual(1, len(said), under.err)
        self.assertRegex(said[0].lower(), word)
        self.assertEqual(without.err, b"".join(l for l in under.err.splitlines(True) if not l.startswith(b"tidemark: ")))
        silent = self.preloaded(command, options, folder=folder, **how)
        self.assertEqual((without.status, table_only(without.out), without.err),
                         (silent.status, table_only(silent.out), silent.err))
        self.assertEqual([], under.files())

    def test_full_disk(self):
        with self.mounted("size=1M") as folder:
            self.unrecorded(folder, "no space|no room")

    def test_full_disk_later(self):
        """The program fills the disk that its region lies on: the region has its blocks already."""
        with self.mounted("size=80M") as folder:
            fill = f"head -c 200000000 /dev/zero > {folder}/filler; exec {VICTIM}"
            run = self.tracked(["/bin/sh", "-c", fill], {"child_grace_allocations": 1}, folder=folder)
            self.assertEqual(0, run.status, run.err)

    def test_full_disk_later_on_btrfs(self):
        """Which puts each page elsewhere when it is written to again, and finds no room."""
        image = os.path.join(self.folder, "image")
        with open(image, "wb") as file:
            file.truncate(200 << 20)
        try:
            subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.skipTest(f"no btrfs can be made: {error}")
        with self.mounted("loop", "btrfs", image) as folder:
            if tuple(int(n) for n in os.uname().release.split(".")[:2]) < (6, 16):
                return self.unrecorded(folder, "btrfs")
            environment = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}:region_size=16M"})
            process = subprocess.Popen([support.victim("growth")], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.addCleanup(process.kill)
            process.stdout.readline()
            os.sync()
            with contextlib.suppress(OSError), open(os.path.join(folder, "filler"), "wb", buffering=0) as filler:
                for size in [1 << 20] * 200 + [4096] * 1000:
                    with contextlib.suppress(OSError):
                        filler.write(os.urandom(size))
            for _ in range(10):
                os.sync()
                process.stdin.write(b"leak 100000\n")
                process.stdin.flush()
                self.assertTrue(process.stdout.readline(), "it was killed")
            process.communicate(b"quit\n", timeout=support.PATIENCE)
            self.assertEqual(0, process.returncode)

    def test_small_shm(self):
        """64 MB, as containers have in /dev/shm: the default region does not fit beside anything else."""
        with self.mounted("size=64M") as folder:
            with open(os.path.join(folder, "taken"), "wb") as file:
                file.write(bytes(1 << 20))
            self.unrecorded(folder, "no space|no room")
            run = self.tracked([VICTIM], {"region_size": "16M"}, folder=folder)
            self.assertEqual((0, b""), (run.status, run.err))
            self.assert_table(run)

    def test_read_only_folder(self):
        with self.mounted("size=1M,ro") as folder:
            self.unrecorded(folder, "read-only")

    def test_folder_that_cannot_be_made(self):
        blocked = os.path.join(self.folder, "a-file")
        with open(blocked, "w"):
            pass
        self.unrecorded(os.path.join(blocked, "below"), "folder")
        self.unrecorded("/proc/no-folder-can-be-made-here", "folder")

    def test_missing_folder_is_made(self):
        folder = os.path.join(self.folder, "made")
        run = self.tracked([VICTIM], folder=folder)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(0o700, os.stat(folder).st_mode & 0o777)
        self.assertEqual(0o600, os.stat(run.files()[0]).st_mode & 0o777)
        self.assert_table(run)

    def test_a_filter_that_lets_nothing_pass_but_the_end(self):
        for kill in ("process", "thread"):
            for how, wanted in (("exit", 3), ("fork", 3), ("breach", -31), ("mark", 3)):
                with self.subTest(kill=kill, how=how):
                    command = [support.victim("strict_filter"), kill, how]
                    without = support.plain(command)
                    if without.status == 77:
                        self.skipTest("no filter can be put here")
                    self.assertEqual(wanted, without.status)
                    self.assert_same_behaviour(without, self.preloaded(command, timeout=30))

    def test_a_child_of_a_bare_clone_changes_its_user(self):
        run = self.preloaded([support.victim("user_in_clone")], timeout=60)
        if run.status == 77:
            self.skipTest("needs root")
        self.assertEqual((0, b""), (run.status, run.err))

    def test_another_allocator_comes_first(self):
        other = support.plain(["sh", "-c", "ls /usr/lib/x86_64-linux-gnu/libjemalloc.so.2"]).out.decode().strip()
        if not other:
            self.skipTest("no other allocator is here")
        run = self.preloaded([VICTIM], env={"LD_PRELOAD": f"{other}:{support.LIBRARY}"})
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertTrue(run.report().process["heap_elsewhere"])
        text = support.execute([support.TIDEMARK, "report", *run.files()], env=support.clean_environment()).out.decode()
        self.assertIn("Another library comes before tidemark's", text)
        self.assertNotIn("Nothing is live", text)
        self.assertFalse(self.preloaded([VICTIM], env={"LD_PRELOAD": f"{support.LIBRARY}:{other}"}).report().process["heap_elsewhere"])

    def test_umask_that_takes_all_away(self):
        folder = os.path.join(self.folder, "made")
        run = self.preloaded([VICTIM], folder=folder, preexec_fn=lambda: os.umask(0o777))
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual([0o700, 0o600], [os.stat(path).st_mode & 0o777 for path in (folder, *run.files())])

    def test_file_size_limit(self):
        """One store beyond RLIMIT_FSIZE would be SIGXFSZ, which kills."""
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        self.unrecorded(self.new_folder(), "limit", preexec_fn=limit)

    def test_a_file_size_limit_below_the_ledger(self):
        """The launcher itself can't make its files, nor write what it says to one: the program runs, with SIGXFSZ as it would have it."""
        show = ["grep", "-E", "SigIgn|SigBlk|SigCgt", "/proc/self/status"]
        for size in (0, 512, 1024):
            for disposition in (signal.SIG_DFL, signal.SIG_IGN):
                with self.subTest(size=size, disposition=disposition):
                    def surroundings():
                        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
                        signal.signal(signal.SIGXFSZ, disposition)
                    how = {"preexec_fn": surroundings, "stdout": subprocess.PIPE, "env": support.clean_environment(), "restore_signals": False}
                    without = subprocess.run(show, stderr=subprocess.PIPE, **how)
                    under = subprocess.run([support.TIDEMARK, "run", "-o", self.folder, "--", *show], stderr=subprocess.PIPE, **how)
                    self.assertEqual((without.returncode, without.stdout), (under.returncode, under.stdout), under.stderr)
                    self.assertRegex(own_lines(under.stderr)[0], "RLIMIT_FSIZE")
                    with open(os.path.join(self.folder, "said"), "wb") as said:
                        under = subprocess.run([support.TIDEMARK, "run", "-o", self.folder, "--", *show], stderr=said, **how)
                    self.assertEqual((without.returncode, without.stdout), (under.returncode, under.stdout))
        self.assertEqual([], support.regions_in(self.folder))

    def test_address_space_limit(self):
        """Room for the program, none for a region of 1 GiB."""
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
        self.unrecorded(self.new_folder(), "memory", {"region_size": "1G"}, preexec_fn=limit)

    def test_tight_address_space(self):
        """Recorded or not, the program runs."""
        for megabytes in (74, 80, 100, 150, 200, 300, 400):
            with self.subTest(megabytes=megabytes):
                limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
                without = support.plain([VICTIM], preexec_fn=limit)
                silent = self.preloaded([VICTIM], preexec_fn=limit)
                self.assertEqual((without.status, table_only(without.out)), (silent.status, table_only(silent.out)))

    def test_few_descriptors(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
        without = support.plain([VICTIM], preexec_fn=limit)
        silent = self.preloaded([VICTIM], preexec_fn=limit)
        self.assertEqual((without.status, table_only(without.out), without.err),
                         (silent.status, table_only(silent.out), silent.err))

    def test_closed_standard_streams(self):
        """A region must not be opened as somebody's standard output."""
        for closed in ((0,), (1,), (2,), (0, 1, 2)):
            for how in (self.preloaded, self.tracked):
                with self.subTest(closed=closed, how=how.__name__):
                    close = lambda: [os.close(fd) for fd in closed]
                    without = support.plain([VICTIM], preexec_fn=close)
                    run = how([VICTIM], preexec_fn=close)
                    self.assertEqual(without.status, run.status)
                    self.assertEqual(table_only(without.out), table_only(run.out))
                    report = run.report()
                    self.assertEqual("exited", report.process["ending"])
                    self.assertEqual(4000, report.site("site_small").allocated_count)

    def test_bad_options(self):
        silent = self.preloaded([VICTIM], {"region_size": "rubbish"})
        without = support.plain([VICTIM])
        self.assertEqual((without.status, table_only(without.out), without.err),
                         (silent.status, table_only(silent.out), silent.err))

    def test_disabled(self):
        """enable=0: no file, no thread, the same output."""
        script = "import os; print(len(os.listdir('/proc/self/task')), [m for m in open('/proc/self/maps') if '.tide' in m])"
        command = [sys.executable, "-c", script]
        without = support.plain(command)
        for how in (self.preloaded, self.tracked):
            run = how(command, {"enable": "0"})
            self.assertEqual((without.status, without.out, without.err), (run.status, run.out, run.err))
            self.assertEqual([], os.listdir(run.folder))

    def test_what_preloading_cannot_enter(self):
        """A static program runs unrecorded, with a line that says why; --strict refuses."""
        source, static = os.path.join(self.folder, "s.c"), os.path.join(self.folder, "static")
        with open(source, "w") as file:
            file.write('#include <stdio.h>\nint main(void) { puts("static"); return 5; }\n')
        if subprocess.run(["cc", "-static", source, "-o", static], capture_output=True).returncode != 0:
            self.skipTest("no static libc")
        run = self.tracked([static])
        self.assertEqual((5, b"static\n"), (run.status, run.out))
        self.assertEqual(1, len(own_lines(run.err)), run.err)
        self.assertIn("static", own_lines(run.err)[0])
        strict = support.execute([support.TIDEMARK, "run", "--strict", "-o", self.folder, "--", static],
                                 env=support.clean_environment())
        self.assertEqual((125, b""), (strict.status, strict.out))

    def assert_as_without(self, mode, *arguments, victim="surroundings", options=None, **how):
        """Preloaded and under run as without; the runs."""
        command = [support.victim(victim), mode, *arguments]
        without = support.plain(command, timeout=30, **how)
        if without.status == 77:
            self.skipTest("not possible here")
        self.assertEqual(0, without.status)
        runs = [run(command, options, timeout=30, **how) for run in (self.preloaded, self.tracked)]
        for run in runs:
            self.assertEqual((0, b"", b""), (run.status, run.out, run.err))
        return runs

    def test_the_last_variable_stays_on_the_stack(self):
        """Programs that write their titles over it take it to be there (avahi-daemon)."""
        self.assert_as_without("environment")

    def test_a_limit_on_its_own_address_space(self):
        """Set by the program, before its first allocation: what the shim has mapped does not count."""
        self.assert_as_without("limit")

    def test_a_hard_limit_that_it_may_not_raise(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        self.assert_as_without("hard", preexec_fn=limit)

    def test_a_program_that_changes_its_rights_all_the_time(self):
        """The keeper is started anew each time; the grace of what another program executes is not."""
        command = [support.victim("surroundings"), "restless"]
        without = support.plain(command, timeout=30)
        if without.status == 77:
            self.skipTest("not possible here")
        run = self.preloaded(["/bin/sh", "-c", '"$@"; exit $?', "sh", *command], timeout=30)
        self.assertEqual((0, b"", b""), (run.status, run.out, run.err))
        self.assertEqual(["exited"] * 2, [report.process["ending"] for report in run.reports()])

    def test_a_vfork_child_behind_a_filter(self):
        """Whose memory is the parent's: its end is not the parent's."""
        command = [support.victim("surroundings"), "vfork"]
        without = support.plain(command, timeout=30)
        if without.status == 77:
            self.skipTest("not possible here")
        run = self.preloaded(command, timeout=30)
        self.assert_same_behaviour(without, run)
        self.assertEqual("killed", run.report().process["ending"])

    def test_a_child_that_forks(self):
        for options in (None, {"enable": "0"}):
            self.assert_as_without("twice", options=options)

    def test_a_child_that_goes_elsewhere(self):
        """By chroot: it has its region before."""
        for run in self.assert_as_without("chroot", self.new_folder()):
            self.assertEqual(2, len(run.files()))

    def test_a_guard_page_in_its_own_stack(self):
        self.assert_as_without("guard")

    def test_guard_pages_however_they_come(self):
        ways = ("mprotect", "pkey", "mmap", "madvise", "munmap", "mremap", "covered", "file", "syscall", "syscall_mmap", "syscall_munmap", "syscall_mremap",
                "other", "munmap_other", "mremap_other", "below")
        for way in ways:
            for where in ((), ("main",)):
                command = [support.victim("stack_guards"), way, *where]
                with self.subTest(way=way, where=where):
                    if support.plain(command).status == SKIP:
                        continue   # a kernel that does not know it
                    run = self.tracked(command)
                    self.assertEqual((0, b"", []), (run.status, run.err, run.report().contradictions()))

    def test_unwind_data_that_lies_on_a_coroutine(self):
        self.assert_as_without("lie")

    def test_small_stacks(self):
        """The process's first allocation, and the one that ends a child's grace, where the stack is small."""
        self.assert_as_without("first", victim="small_stack")
        for run in self.assert_as_without("child", victim="small_stack", options={"child_grace_allocations": "20"}):
            self.assertEqual(2, len(run.files()))

    def test_another_group_behind_a_filter(self):
        """glibc asks for it in all threads, and ends the process where they differ in what they may."""
        without = support.plain([support.victim("confined_user")])
        if without.status == 77:
            self.skipTest("not possible here")
        self.assertEqual(3, without.status)
        run = self.preloaded([support.victim("confined_user")])
        self.assertEqual((3, b""), (run.status, run.err))
        report = run.report()
        self.assertEqual(1, report.coverage["keeper_missing"])
        (before,), (after,) = (report.site(site).stacks for site in ("site_before", "site_after"))
        self.assertGreater(after["first_s"] - before["last_s"], 0.4, "time goes on without it")

    def test_large_thread_local_storage(self):
        for run in [run([support.victim("large_tls")], {"sample_interval": "100ms"}) for run in (self.preloaded, self.tracked)]:
            self.assertEqual((0, b"", b""), (run.status, run.out, run.err))
            self.assertLess(0, len(run.report().raw["series"]))

    @unittest.skipUnless(os.geteuid() == 0, "root is not limited itself, and can become another user")
    def test_no_thread_can_be_made(self):
        """Recorded all the same, a child too; the report says what it lacks."""
        folder = self.new_folder()
        os.chmod(self.folder, 0o755)
        os.chmod(folder, 0o777)
        # As many processes and threads as there are, and one: the child itself.
        script = """if True:
            import os, resource, time
            wanted = 3 if "libtidemark" in open("/proc/self/maps").read() else 1   # with the two that come by themselves
            while len(os.listdir("/proc/self/task")) < wanted: time.sleep(0.01)
            most = len(os.listdir("/proc/self/task")) + 1
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
            child = os.fork()
            end = time.monotonic() + 1
            while not child and time.monotonic() < end: bytearray(1000)
            if not child: os._exit(5)
            print(os.waitpid(child, 0)[1])"""
        command = ["setpriv", "--reuid=65533", "--clear-groups", "/usr/bin/python3", "-c", script]
        without = support.plain(command)
        if without.out != b"1280\n":
            self.skipTest("not possible here")
        run = self.preloaded(command, {"child_grace": "100ms", "child_grace_allocations": "1000000000"}, folder=folder)
        self.assertEqual((0, without.out), (run.status, run.out))
        missing = {report.process["origin"]: report.coverage["keeper_missing"] for report in run.reports()}
        self.assertEqual((0, 1), (missing["launched"], missing["forked"]))

    @unittest.skipUnless(os.geteuid() == 0, "root is not limited itself, and can become another user")
    def test_no_thread_may_be_made_any_more(self):
        """As haproxy does it: samples go on, and `tidemark stats` is answered."""
        folder = self.new_folder()
        os.chmod(self.folder, 0o755)
        os.chmod(folder, 0o777)
        script = "import os, resource; os.setresuid(65533, 65533, 65533); resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)); print(os.getpid(), flush=True); input()"
        process = subprocess.Popen(["/usr/bin/python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}:sample_interval=100ms"}))
        self.addCleanup(process.kill)
        pid = process.stdout.readline().decode().strip()
        done = support.execute([support.TIDEMARK, "stats", pid], env=support.clean_environment())
        self.assertEqual((0, b""), (done.status, done.err))
        process.communicate(b"\n", timeout=support.PATIENCE)
        self.assertEqual(0, process.returncode)
        (path,) = support.regions_in(folder)
        report = support.read_report(path)
        self.assertEqual((0, 0), (report.coverage["samples_lost"], report.coverage["keeper_missing"]))
        self.assertGreater(sum(point["samples"] for point in report.raw["series"]), 0)

    @unittest.skipUnless(os.geteuid() == 0, "only root can become another user")
    def test_refused_after_a_change_of_user(self):
        """The reason reaches the launcher, with the program's name: the ledger is opened before, and tidemark's own thread is who finds out."""
        os.chmod(self.folder, 0o755)
        folder = self.new_folder()
        os.chmod(folder, 0o777)
        for become in ("", "os.setresuid(65533, 65533, 65533);"):
            script = f"import os, resource, time; resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000)); {become} time.sleep(0.6)"
            run = self.tracked(["sh", "-c", f"/usr/bin/python3 -c '{script}'; true"], {"child_grace": "100ms"}, folder=folder)
            self.assertEqual(0, run.status)
            (said,) = own_lines(run.err)
            self.assertRegex(said, r"python3\b.*file size limit")

    @unittest.skipUnless(os.geteuid() == 0, "only root can have two users")
    def test_another_effective_user(self):
        """The loader drops what is preloaded: what is executed then runs unrecorded, and is counted."""
        script = "import os; os.setresuid(65533, 0, 0); os.execv('/bin/true', ['true'])"
        run = self.preloaded(["/usr/bin/python3", "-c", script])
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(1, run.report().coverage["children_secure"])
        run = self.preloaded(["sh", "-c", f'/usr/bin/python3 -c "{script}"; true'], {"child_grace": "1h"})
        self.assertEqual(1, run.report().coverage["children_secure"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can change a file's owner")
    def test_files_of_others_in_the_folder(self):
        """Whoever owns a file can cut it, or hold up who opens it: a child that looks for its parent's region leaves those of other users alone."""
        folder = self.new_folder()
        with open(os.path.join(folder, f"python.{os.getpid()}.tide"), "wb") as file:
            file.write(bytes(8192))
        os.chown(file.name, 65534, 65534)
        before = signal.signal(signal.SIGIO, lambda *_: None)
        self.addCleanup(signal.signal, signal.SIGIO, before)
        lease = os.open(file.name, os.O_RDWR)
        try:
            fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            self.skipTest(f"no leases here: {error}")
        child = {"TIDEMARK_RUN": f"v1,1234,{os.getpid()},{folder}/no-ledger"}
        run = self.preloaded(["setpriv", "--reuid=65533", "--clear-groups", "true"], folder=folder, env=child, timeout=30)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(fcntl.F_WRLCK, fcntl.fcntl(lease, fcntl.F_GETLEASE))
        os.close(lease)

    def test_an_executable_at_fixed_addresses(self):
        """Where it takes malloc's address, the loader finds that in the executable, which does not define it."""
        for run in self.assert_as_without("allocate", victim="surroundings.fixed"):
            report = run.report()
            self.assertFalse(report.process["heap_elsewhere"])
            self.assertLessEqual(100, report.totals["allocated_bytes"])

    def test_sanitizers(self):
        """What a sanitizer is in runs unrecorded, with a line that says why: it does as it would alone, also about a leak."""
        source = os.path.join(self.folder, "s.c")
        with open(source, "w") as file:
            file.write('#include <stdio.h>\n#include <stdlib.h>\nchar* volatile p;\n'
                       'int main(void) { puts("sanitized"); p = malloc(100); p = 0; return 0; }\n')
        for kind in ("address", "leak"):
            program = os.path.join(self.folder, kind)
            if subprocess.run(["cc", "-fsanitize=" + kind, source, "-o", program], capture_output=True).returncode != 0:
                self.skipTest("no sanitizers")
            without, run = support.plain([program]), self.tracked([program])
            self.assertEqual((without.status, without.out), (run.status, run.out))
            self.assertEqual(1, len(own_lines(run.err)), run.err)
            self.assertIn("sanitizer", own_lines(run.err)[0])

    def test_without_proc(self):
        """The launcher finds its library by the name that it was started by; the program runs."""
        def without_proc(*command):
            return ["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", *command]
        if support.plain(without_proc("true")).status != 0:
            self.skipTest("/proc cannot be unmounted here")
        folder, name = os.path.split(support.TIDEMARK)
        without = support.plain(without_proc(VICTIM))
        for launcher in (support.TIDEMARK, os.path.join(".", name)):
            for options, said in (([], ["tidemark: runs unrecorded: /proc is not mounted, and recording needs it"]), (["--enable=0"], [])):
                command = without_proc(launcher, "run", "-o", self.folder, *options, "--", VICTIM)
                run = support.execute(command, env=support.clean_environment(), cwd=folder)
                self.assertEqual((0, table_only(without.out), said), (run.status, table_only(run.out), own_lines(run.err)))

    def jail(self, *files):
        """A folder to chroot to, with these files and the libraries that they need, and without /proc."""
        jail = self.new_folder()
        os.chmod(self.folder, 0o755)
        os.chmod(jail, 0o755)
        libraries = [word for file in files for word in support.plain(["ldd", file]).out.decode().split() if word.startswith("/")]
        for path in {*files, *libraries}:
            os.makedirs(jail + os.path.dirname(path), exist_ok=True)
            shutil.copy(path, jail + path)
        os.makedirs(jail + "/regions")
        os.chmod(jail + "/regions", 0o1777)
        return jail

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_program_behind_a_chroot_without_proc(self):
        """Its region gets its name without /proc: as root always, as another user since Linux 6.10."""
        jail = self.jail(VICTIM, support.LIBRARY)
        for user in (0, 65534):
            def enter():
                os.chroot(jail)
                os.chdir("/")
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            with self.subTest(user=user):
                if user and tuple(int(n) for n in os.uname().release.split(".")[:2]) < (6, 10):
                    self.skipTest("this kernel lets only root do so")
                folder = "/regions"
                run = self.preloaded([VICTIM], folder=folder, preexec_fn=enter)
                self.assertEqual((0, b""), (run.status, run.err))
                run.folder = jail + folder
                report = run.report()
                self.assert_consistent(report)
                self.assertLess(10_000, report.totals["allocated_count"])
                os.unlink(report.path)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_rss_behind_a_chroot_without_proc(self):
        """The process cannot tell it; `stats` looks itself, and the report says that it is not known."""
        grower = support.victim("growth")
        jail = self.jail(grower, support.LIBRARY)
        env = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": "dir=/regions:sample_interval=100ms"})

        def enter():
            os.chroot(jail)
            os.chdir("/")

        with subprocess.Popen([grower], env=env, preexec_fn=enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            self.addCleanup(process.kill)
            self.assertEqual(b"ok\n", process.stdout.readline())
            (region,) = support.regions_in(jail)
            stats = support.plain([support.TIDEMARK, "stats", str(process.pid)])
            self.assertEqual((0, b""), (stats.status, stats.err))
            self.assertRegex(stats.out.decode(), r"(?m)^  RSS +\d.* MiB.*; seen from here, for the process cannot read /proc: no baseline$")
            usage = json.loads(support.plain([support.TIDEMARK, "stats", str(process.pid), "--json"]).out)["usage"]
            with open(f"/proc/{process.pid}/statm") as file:
                self.assertAlmostEqual(int(file.read().split()[1]) * 4096 / (1 << 20), usage["rss_mb"], delta=1)
            process.communicate(b"quit\n", timeout=support.PATIENCE)
        report = support.plain([support.TIDEMARK, "report", region]).out.decode()
        self.assertIn("\n  RSS          not known: the process could not read /proc\n", report)

    def filtering_program(self):
        source, program = os.path.join(self.folder, "filtered.c"), os.path.join(self.folder, "filtered")
        with open(source, "w") as file:
            file.write(FILTERED)
        subprocess.run(["cc", "-static", source, "-o", program], check=True)
        return program

    def test_a_filter_against_what_libc_does_not_call(self):
        """stat, fstat, lstat, nanosleep, creat: a list of what programs are seen to call has none of these."""
        command = [self.filtering_program(), "kill", "4", "5", "6", "35", "85"]
        for program in ([VICTIM], ["/usr/bin/python3", "-c", "import subprocess, time; time.sleep(0.5); subprocess.run(['true'], close_fds=False)"]):
            if support.plain(command + program).status != 0:
                self.skipTest("this libc calls them")
            run = self.preloaded(command + program, {"sample_interval": "100ms", "cleanup_interval": "200ms"})
            self.assertEqual((0, b""), (run.status, run.err))
            for report in run.reports():
                self.assert_consistent(report)
            self.assertTrue(run.reports())

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_child_that_finds_no_proc_and_may_not_do_without(self):
        """The reason is in the report of the first process, whose region holds the run's ledger."""
        linkat = 265   # as for who may not link what has no name
        hide = f"unshare -m sh -c 'umount -l /proc && exec {self.filtering_program()} fail {linkat} {VICTIM}'; exit $?"
        run = self.preloaded(["sh", "-c", hide], {"child_grace": "1h"})
        if run.status in (1, 32):
            self.skipTest("/proc cannot be unmounted here")
        self.assertEqual((0, b""), (run.status, run.err))
        report = run.report()
        self.assertEqual(["/proc is not mounted, by which the region file gets its name"], [note["reason"] for note in report.raw["refusals"]])
        self.assertEqual(1, report.coverage["children_unrecorded"])

    def test_command_that_is_not_there(self):
        self.assertEqual(127, self.tracked(["/does/not/exist"]).status)
        self.assertEqual(127, self.tracked(["no-such-command-anywhere"]).status)
        self.assertEqual(126, self.tracked([self.folder]).status)

    def test_regions_are_never_overwritten(self):
        folder = self.new_folder()
        for _ in range(5):
            self.assertEqual(0, self.tracked([VICTIM], folder=folder).status)
        self.assertEqual(5, len(os.listdir(folder)))


# Executes a command under a filter of one or more system calls (what happens to them, their numbers, then the command).
FILTERED = """
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char** arguments) {
  struct sock_filter filter[100] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  unsigned short n = 1, i = 2;
  for (; i < count && *arguments[i] >= '0' && *arguments[i] <= '9'; i++) {
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(arguments[i]), 0, 1);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, *arguments[1] == 'k' ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | ENOENT);
  }
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {n, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 1;
  return execv(arguments[i], arguments + i);
}
"""


class HardLife(support.TestCase):
    """What a program does to itself."""

    def live(self, mode, options=None):
        without = support.plain([HARD_LIFE, mode])
        if without.status == SKIP:
            self.skipTest(f"{mode}: not permitted here")
        self.assertEqual(0, without.status, without.out + without.err)
        run = self.tracked([HARD_LIFE, mode], options)
        self.assertEqual(0, run.status, run.err)
        self.assertEqual(b"", run.err)
        self.assertEqual(len(without.out.splitlines()), len(run.out.splitlines()))
        return run

    def exact(self, mode, options=None, losses_allowed=()):
        run = self.live(mode, options)
        self.assert_table(run, losses_allowed)
        return run

    def test_mlockall(self):
        self.exact("mlockall")

    def test_mlockall_does_not_fill_memory(self):
        """Every reserve becomes resident: it must be small. The region itself (64 MiB) is the file's page cache."""
        run = self.live("mlockall_memory")
        kilobytes = int(run.out.splitlines()[0].split(b":")[1].rstrip(b"}"))
        self.assertLess(kilobytes, (64 + 96) * 1024)

    def test_seccomp(self):
        self.exact("seccomp", {"sample_interval": "100ms", "cleanup_interval": "300ms"}, ("samples_confined", "purges_confined"))

    def test_a_filter_that_does_not_come(self):
        report = self.exact("seccomp_refused", {"sample_interval": "100ms", "cleanup_interval": "200ms"}).report()
        self.assertGreater(sum(s["samples"] for s in report.raw["series"]), 2)
        self.assertTrue(report.raw["purges"])

    def test_seccomp_before_the_baseline(self):
        """A sample that cannot be taken is counted once, not at each tick."""
        report = self.exact("seccomp", {"sample_interval": "10s", "cleanup_interval": "0", "baseline_after": "100ms"}, ("samples_confined",)).report()
        self.assertLessEqual(report.coverage["samples_confined"], 2 + report.process["duration_s"] // 10)

    def test_seccomp_at_any_moment(self):
        """The filter comes while a sample is being taken, or before the thread that takes them is there."""
        for delay in range(50, 130, 4):
            with self.subTest(delay=delay):
                run = self.tracked([HARD_LIFE, "seccomp_at", str(delay)], {"sample_interval": "100ms", "cleanup_interval": "100ms"})
                if run.status == SKIP:
                    self.skipTest("not permitted here")
                self.assertEqual((0, b""), (run.status, run.err))
                self.assertEqual([], run.report().contradictions())

    def test_seccomp_and_mmap(self):
        run = self.tracked([HARD_LIFE, "seccomp_mappings"])
        if run.status == SKIP:
            self.skipTest("not permitted here")
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(20, max(site["calls"] for site in run.report().raw["mapping_sites"]))

    def test_seccomp_in_a_child(self):
        """Its region is made before the filter comes, which would kill who makes it."""
        run = self.exact("seccomp_child", None, ("samples_confined",))
        self.assertIn(b"child: 0\n", run.out)

    def test_children_of_a_confined_process(self):
        run = self.live("seccomp_fork")
        self.assertIn(b"child: 0\n", run.out)
        self.assert_table(run, ("children_unrecorded", "samples_confined"))
        self.assertEqual(1, run.report().coverage["children_unrecorded"])

    def test_seccomp_unseen(self):
        """Put on by the instruction itself: what was open is read on, nothing is opened."""
        report = self.exact("seccomp_raw", {"sample_interval": "100ms", "cleanup_interval": "300ms"}, ("purges_confined",)).report()
        samples = report.raw["series"]
        self.assertGreater(sum(s["samples"] for s in samples), 2)
        self.assertIsNone(samples[-1]["fds"])
        self.assertGreater(samples[-1]["rss"], 0)

    def test_setuid(self):
        self.exact("setuid")

    def test_setuid_then_fork(self):
        run = self.live("setuid_fork")
        reports = self.assert_table(run, ("children_other_user",))
        (report,) = next(iter(reports.values()))
        self.assertEqual(1, report.coverage["children_other_user"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can change its user")
    def test_what_rss_consists_of_once_privileges_are_given_up(self):
        """From then on /proc/self/pagemap is root's."""
        folder = self.new_folder()
        os.chmod(self.folder, 0o755)
        os.chmod(folder, 0o1777)
        script = "import os, time; os.setgroups([]); os.setgid(65534); os.setuid(65534); kept = bytes(20_000_000); time.sleep(1.5)"
        options = {"sample_interval": "100ms", "baseline_after": "500ms"}
        run = self.preloaded(["/usr/bin/python3", "-c", script], options, folder=folder)
        self.assertEqual((0, b""), (run.status, run.err))
        report = run.report()
        ledger = report.raw["ledger"]
        self.assertGreater(ledger["live"] + ledger["live_untouched"], 20_000_000)
        self.assertLess(abs(ledger["residual"]), 2 << 20)
        self.assertEqual({}, report.losses())

    @unittest.skipUnless(os.geteuid() == 0, "only root can change its user")
    def test_setpriv(self):
        """It keeps the capability to write anywhere until it executes; what it executes has lost it."""
        command = ["setpriv", "--reuid=65534", "--clear-groups", "sleep", "0.3"]
        for run in (self.tracked(command), self.tracked(["sh", "-c", " ".join(command) + "; true"])):
            self.assertEqual(0, run.status, run.err)
            (report,) = run.reports()
            self.assertEqual(1, report.coverage["children_other_user"], report.path)

    def test_raw_signal_mask(self):
        self.exact("raw_mask")

    def test_unshare(self):
        self.exact("unshare")

    def test_closefrom(self):
        self.exact("closefrom")

    def test_descriptors(self):
        """The keeper takes no descriptor number, not for a moment."""
        self.exact("descriptors", {"child_grace": "20"})

    def test_limits_set_by_the_program(self):
        self.exact("low_limits", losses_allowed=("ledgers_unread",))   # three descriptors: none for smaps

    def test_no_memory_left(self):
        run = self.live("no_memory")
        self.assertIn(b"survived", run.out)
        self.assertEqual("exited", run.report().process["ending"])

    def test_chdir_and_umask(self):
        self.exact("chdir_umask")

    def test_unshare_command(self):
        if not support.has("unshare"):
            self.skipTest("no unshare here")
        command = ["unshare", "-U", "true"]
        without = support.plain(command)
        if without.status != 0:
            self.skipTest("no user namespaces here")
        for how in (self.preloaded, self.tracked):
            for _ in range(50):   # once in twenty is a failure, too
                run = how(command)
                self.assertEqual((0, b"", b""), (run.status, run.out, run.err))
