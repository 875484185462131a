"""Thousands of threads and millions of call stacks: bounded, and told as they are."""
import re

import support

JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"   # comes with what the build needs
SHORT, ALIVE = 2000, 500
STACKS = 2_000_000


def figure(run, words):
    return int(re.search(rf"{words} (\d+) KiB".encode(), run.out).group(1))


class Crowds(support.TestCase):
    def test_thousands_of_threads(self):
        command = [support.victim("crowds"), "threads", str(SHORT), str(ALIVE)]
        run = self.tracked(command)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assert_table(run)
        self.assertGreater(run.report().process["threads_peak"], ALIVE)
        jemalloc = support.plain(command, env={"LD_PRELOAD": JEMALLOC})
        self.assertLessEqual(figure(run, "a live thread takes"), figure(jemalloc, "a live thread takes") + 16)

    def test_millions_of_stacks(self):
        command = [support.victim("crowds"), "stacks", str(STACKS)]
        run = self.tracked(command)
        self.assertEqual((0, b""), (run.status, run.err))
        report = run.report(10)
        self.assert_consistent(report)
        overflow = [s for s in report.sites if s["overflow"]]
        self.assertEqual(1, len(overflow))
        self.assertEqual(report.coverage["overflow_allocations"], overflow[0]["allocated_count"])
        # The program's own few allocations apart, all that it did is there.
        self.assertLess(0, report.totals["allocated_count"] - STACKS + 1)
        self.assertGreater(100, report.totals["allocated_count"] - STACKS)
        self.assertGreater(100, report.totals["live_count"] - STACKS // 2)
        # At least one node and one record a stack: what 64 MiB can hold.
        self.assertGreater(report.coverage["stacks"], 200_000)
        plain = support.plain(command)
        added = figure(run, "resident:") - figure(plain, "resident:")
        self.assertLess(added, 96 << 10, "KiB: the region, and half as much for indexes, caches and metadata")
