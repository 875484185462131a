"""Libraries that have functions by names of libc's, as fakeroot, libfaketime and cwrap's wrappers do: tidemark's own calls go past them."""
import os
import signal
import subprocess
import unittest

import support

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
