"""stress-ng: programs that do one thing of the kernel's again and again, in many threads and processes, with signals, and look at what came of it."""
import real
from real import support

STRESSORS = ("pthread", "clone", "vfork", "fork", "exec", "daemon", "seccomp", "malloc", "mmap", "brk", "stack", "sigsegv", "sigfpe", "switch")


class StressNg(real.RealProgram):
    NEEDS = ("stress-ng",)

    def test_stressors(self):
        options = {"region_size": "16M", "child_region_size": "1M", "regions_max": "128M"}
        for stressor in STRESSORS:
            with self.subTest(stressor):
                command = ["stress-ng", f"--{stressor}", "2", "--timeout", "1", "--quiet"]
                without = support.plain(command, timeout=60)
                self.assertEqual((0, b""), (without.status, without.err), "without tidemark")
                run = self.preloaded(command, options, timeout=60)
                self.assert_same_behaviour(without, run)
                for report in run.reports():
                    self.assert_consistent(report)
