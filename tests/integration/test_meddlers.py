"""Libraries that have functions by names of libc's, as fakeroot, libfaketime and cwrap's wrappers do: tidemark's own calls go past them."""
import os
import shutil
import signal
import subprocess
import unittest

import support

BUSY = {"sample_interval": "100ms", "cleanup_interval": "200ms"}
MEDDLER = os.path.join(os.path.dirname(support.victim("children")), "libmeddler.so")


class Meddlers(support.TestCase):
    def meddled(self, command, options=None):
        for libraries in ((support.LIBRARY, MEDDLER), (MEDDLER, support.LIBRARY)):
            with self.subTest(command=command, libraries=libraries):
                yield self.preloaded(command, {"sample_interval": "100ms", "cleanup_interval": "200ms", **(options or {})}, env={"LD_PRELOAD": ":".join(libraries)})

    def test_nobody_else_is_called(self):
        for command in ([support.victim("hard_life"), "seccomp_refused"], ["sh", "-c", "for i in 1 2 3; do sh -c 'sleep 0.2'; done; sleep 0.3 & wait"],
                        ["/usr/bin/python3", "-c", "import os, time\nfor i in range(6):\n  if os.fork() == 0: time.sleep(0.12); os._exit(0)\nfor i in range(6): os.wait()"]):
            for run in self.meddled(command, {"warn_increase": "1"}):
                self.assertEqual((0, b""), (run.status, run.err))
                self.assertTrue(run.reports())
                for report in run.reports():
                    self.assert_consistent(report)

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_nobody_else_is_called_by_another_user(self):
        """Before a program is executed: whether the next image can write where regions are."""
        for run in self.meddled(["/usr/bin/python3", "-c", "import os; os.setresuid(65534, 65534, 65534); os.execv('/bin/true', ['true'])"]):
            self.assertEqual((0, b""), (run.status, run.err))
            self.assertTrue(run.reports())

    def test_an_allocator_that_knows_of_no_threads(self):
        """The program's own, which our threads must not enter, nor what they ask of libc."""
        for run in (self.preloaded([support.victim("lockless")], BUSY), self.tracked([support.victim("lockless")], BUSY)):
            self.assertEqual((0, b"0 calls by others\n", b""), (run.status, run.out, run.err))
            self.assertTrue(run.report().raw["series"], "and yet it was watched")

    def test_who_asks_for_figures_first(self):
        """A library that is initialised before ours, and calls no malloc before."""
        early = os.path.join(os.path.dirname(support.victim("children")), "libasks_early.so")
        run = self.preloaded(["/bin/true"], env={"LD_PRELOAD": f"{support.LIBRARY}:{early}"})
        self.assertEqual((0, b""), (run.status, run.err))

    def test_mutexes_of_the_programs_own(self):
        run = self.tracked([support.victim("mutex_wrapper")], BUSY)
        self.assertEqual((5, b"1 locks\n", b""), (run.status, run.out, run.err))

    def test_static_sanitizers(self):
        """Their functions by libc's names are in the executable, before all others."""
        source = os.path.join(os.path.dirname(__file__), "..", "victims", "runtime_of_its_own.c")
        for compiler in (["gcc", "-fsanitize=thread", "-static-libtsan"], ["gcc", "-fsanitize=address", "-static-libasan"], ["clang", "-fsanitize=thread"],
                         ["clang", "-fsanitize=address"], ["clang", "-fsanitize=memory"]):
            with self.subTest(compiler=compiler):
                program = os.path.join(self.new_folder(), "program")
                if not shutil.which(compiler[0]) or subprocess.run([*compiler, "-o", program, source, "-lpthread"], capture_output=True).returncode != 0:
                    continue
                env = {"ASAN_OPTIONS": "detect_leaks=0"}
                if support.plain([program], env=env).status != 4:
                    continue   # nor does it run by itself on this kernel
                run = self.tracked([program], BUSY, env=env)
                self.assertEqual((4, b"", b""), (run.status, run.out, run.err))

    def test_nobody_else_is_called_when_asked(self):
        """Requests by the mailbox, and their answers."""
        for libraries in ((support.LIBRARY, MEDDLER), (MEDDLER, support.LIBRARY)):
            folder = self.new_folder()
            env = support.clean_environment({"LD_PRELOAD": ":".join(libraries), "TIDEMARK_OPTIONS": f"dir={folder}"})
            process = subprocess.Popen(["sleep", "60"], env=env, stderr=subprocess.PIPE)
            try:
                support.wait_until(lambda: os.listdir(folder) != [])
                for request in (["stats", str(process.pid)], ["cleanup", str(process.pid)], ["snapshot", str(process.pid), "-o", os.path.join(folder, "copy")]):
                    asked = subprocess.run([support.TIDEMARK, *request], capture_output=True, env=support.clean_environment())
                    self.assertEqual((0, b""), (asked.returncode, asked.stderr), request)
            finally:
                process.send_signal(signal.SIGTERM)
                self.assertEqual((-signal.SIGTERM, b""), (process.wait(), process.stderr.read()))
                process.stderr.close()
