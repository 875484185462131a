"""The OOM killer's work is named as such. In a real cgroup where one can be made."""
import os
import shutil
import subprocess
import tempfile
import time

import support
from test_keeper import FAST, MIB

LIMIT = 80 * MIB
ROOTS = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"))


class Cgroup:
    """A memory cgroup with a limit; None where none can be made."""

    @staticmethod
    def make(name):
        for root, limit in ROOTS:
            folder = os.path.join(root, name)
            try:
                os.mkdir(folder)
            except OSError:
                continue
            try:
                with open(os.path.join(folder, limit), "w") as file:
                    file.write(str(LIMIT))
                for swap, value in (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", str(LIMIT))):
                    if os.path.exists(os.path.join(folder, swap)):
                        with open(os.path.join(folder, swap), "w") as file:
                            file.write(value)
                return folder
            except OSError:
                os.rmdir(folder)
        return None


class InCgroup(support.TestCase):
    def setUp(self):
        super().setUp()
        self.cgroup = Cgroup.make(f"tidemark-test-{os.getpid()}")
        if not self.cgroup:
            self.skipTest("no memory cgroup can be made here")
        self.addCleanup(self.remove)

    def remove(self):
        if os.path.isdir(self.cgroup):
            os.rmdir(self.cgroup)


class OutOfMemory(InCgroup):
    def grow_until_killed(self, contained=False):
        """By LD_PRELOAD, in the cgroup; what is asked for grows slowly enough to be sampled. contained: it sees its cgroup as the root of all, as
        programs in containers do."""
        folder = self.new_folder()
        settings = ":".join(f"{k}={v}" for k, v in {"dir": folder, **FAST}.items())
        env = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": settings})
        enter = f"echo $$ >{self.cgroup}/cgroup.procs; "
        if contained:
            enter += f"mount --bind {self.cgroup} {os.path.dirname(self.cgroup)} || exit 77; "
        unshare = ["unshare", "-m", "--propagation", "private"] if contained else []
        process = subprocess.Popen([*unshare, "/bin/sh", "-c", enter + f"exec {support.victim('growth')}"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(lambda: (process.kill(), process.communicate()))
        process.stdout.readline()
        try:
            for _ in range(100):
                process.stdin.write(b"leak %d\n" % (2 * MIB))
                process.stdin.flush()
                if not process.stdout.readline():
                    break
                time.sleep(0.1)   # a sample, on the whole
        except BrokenPipeError:
            pass
        self.assertEqual(-9, process.wait(support.PATIENCE))
        (path,) = [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("growth")]
        return path

    def test_seen(self):
        path = self.grow_until_killed()
        report = support.read_report(path)
        oom = report.process["oom"]
        self.assertEqual(("seen", LIMIT), (oom["certainty"], oom["limit_bytes"]))
        self.assertGreater(oom["rss_bytes"], 0)
        self.assertGreater(report.under("leak").live_bytes, LIMIT // 2, "exact at the moment of death")
        text = support.execute([support.TIDEMARK, "report", path], env=support.clean_environment()).out.decode()
        self.assertIn("killed by the OOM killer (its cgroup counted it)", text)
        self.assertIn("80.0 MiB (cgroup)", text)
        self.assertLess(text.index("held by"), text.index("leak"))

    def test_inferred_when_the_cgroup_is_gone(self):
        path = self.grow_until_killed()
        self.remove()
        self.assertEqual("inferred", support.read_report(path).process["oom"]["certainty"])

    def test_in_a_container(self):
        if support.plain(["unshare", "-m", "true"]).status != 0:
            self.skipTest("no mount namespaces here")
        path = self.grow_until_killed(contained=True)
        report = support.read_report(path)
        self.assertEqual((os.path.dirname(self.cgroup), "seen"), (report.raw["cgroup"], report.process["oom"]["certainty"]))
        self.remove()
        self.assertEqual("inferred", support.read_report(path).process["oom"]["certainty"])

    def test_a_plain_kill_is_none(self):
        folder = self.new_folder()
        enter = f"echo $$ >{self.cgroup}/cgroup.procs; kill -9 $$"
        env = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}"})
        process = subprocess.run(["/bin/sh", "-c", enter], env=env, check=False)
        self.assertEqual(-9, process.returncode)
        for name in os.listdir(folder):
            self.assertIsNone(support.read_report(os.path.join(folder, name)).process["oom"])


class RegionInMemory(InCgroup):
    """On tmpfs a region counts wholly against the limit, from the moment it is made."""

    def setUp(self):
        super().setUp()
        if not os.access("/dev/shm", os.W_OK):
            self.skipTest("no /dev/shm here")
        self.shared = tempfile.mkdtemp(prefix="tidemark-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.shared)

    def start(self, size, before=()):
        """What is in the folder afterwards, and standard error."""
        enter = f"echo $$ >{self.cgroup}/cgroup.procs; exec "
        run = support.plain(["/bin/sh", "-c", enter + " ".join([*before, support.victim("single_thread"), ">/dev/null"])],
                            None if before else {"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={self.shared}:region_size={size}:follow=single_thread"})
        self.assertEqual(0, run.status, run.err)
        return support.regions_in(self.shared), run.err.decode()

    def test_not_where_it_would_take_most_of_the_limit(self):
        """80 MiB: the program would be killed at its start, or soon after."""
        run = [support.TIDEMARK, "run", "-o", self.shared]
        made, said = self.start(None, [*run, "--region_size=78M", "--"])
        self.assertEqual([], made)
        self.assertIn(f"the region would take most of what the cgroup's memory limit leaves: {self.shared}; use a folder on a disk with -o DIR", said)

    def test_where_there_is_room_the_report_says_what_it_takes(self):
        made, _ = self.start("16M")
        for path in made:
            report = support.read_report(path)
            self.assertIs(True, report.process["region_in_memory"])
            text = support.execute([support.TIDEMARK, "report", path], env=support.clean_environment()).out.decode()
            self.assertIn(f"  region    {path} (in memory: its 16.0 MiB count against the cgroup's limit)\n", text)
        self.assertTrue(made)

    def test_not_on_a_disk(self):
        run = self.preloaded([support.victim("single_thread")])
        self.assertIs(False, run.reports()[0].process["region_in_memory"])
