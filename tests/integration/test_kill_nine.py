"""kill −9 at a random moment: all that the program had noted down is in the region, exactly; beyond that at most one operation
a thread. TIDEMARK_KILLS sets how often (100; scripts/soak: 1000), TIDEMARK_SEED repeats a failing run's delays."""
import os
import random
import signal
import struct
import subprocess
import time

import support

THREADS = 4
# Leaf function → size of its blocks; in the order of the marker's columns.
LEAVES = [("leaf_0", 1000), ("leaf_1", 33), ("leaf_2", 200), ("leaf_3", 17000), ("leaf_realloc", 4321)]
SLOT = struct.Struct(f"={2 * len(LEAVES)}Q")
MARKER = struct.Struct(f"=Q{2 * SLOT.size}s")


def noted(path):
    """What the threads had finished: leaf → (allocated, freed), summed over threads; and the number of operations."""
    with open(path, "rb") as file:
        data = file.read()
    allocated, freed, operations = [0] * len(LEAVES), [0] * len(LEAVES), 0
    for finished, slots in MARKER.iter_unpack(data):
        values = SLOT.unpack_from(slots, finished % 2 * SLOT.size) if finished else (0,) * 2 * len(LEAVES)
        for i in range(len(LEAVES)):
            allocated[i] += values[i]
            freed[i] += values[len(LEAVES) + i]
        operations += finished
    return allocated, freed, operations


class KillNine(support.TestCase):
    def test_at_random_moments(self):
        times = int(os.environ.get("TIDEMARK_KILLS", "100"))
        seed = int(os.environ.get("TIDEMARK_SEED", str(random.randrange(1 << 32))))
        chance = random.Random(seed)
        operations, stacks = 0, 0
        for number in range(times):
            with self.subTest(kill=number, seed=seed):
                report, done = self.kill_one(chance.random() ** 2 * 0.6)
                operations += done
                stacks = max(stacks, report.coverage["stacks"])
        self.assertGreater(operations, 1000 * times, "the program hardly ran: the test shows nothing")
        self.assertGreater(stacks, 2000)

    def kill_one(self, delay):
        folder = self.new_folder()
        marker = os.path.join(self.folder, "marker")
        if os.path.exists(marker):
            os.remove(marker)
        process = subprocess.Popen(
            [support.victim("kill_nine"), marker],
            env=support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}"}))
        try:
            self.assertTrue(support.wait_until(
                lambda: process.poll() is not None or os.path.exists(marker) and os.path.getsize(marker) and noted(marker)[2] > 0))
            time.sleep(delay)
        finally:
            process.send_signal(signal.SIGKILL)
            self.assertEqual(-signal.SIGKILL, process.wait())
        (name,) = os.listdir(folder)
        report = support.read_report(os.path.join(folder, name))
        self.compare(report, *noted(marker))
        os.remove(report.path)
        return report, noted(marker)[2]

    def compare(self, report, allocated, freed, _):
        self.assertEqual("killed", report.process["ending"])
        # Cut off between a count and its bytes, a site may be one block off in one of them: no exact sums across the two here.
        self.assertEqual({}, report.losses())
        ahead = {"allocated_count": 0, "freed_count": 0, "allocated_bytes": 0, "freed_bytes": 0}
        for i, (leaf, size) in enumerate(LEAVES):
            site = report.site(leaf)
            for kind, want in (("allocated", allocated[i]), ("freed", freed[i])):
                count = getattr(site, f"{kind}_count") - want
                in_bytes, rest = divmod(getattr(site, f"{kind}_bytes") - want * size, size)
                what = f"{leaf} {kind}: noted {want}, count {count:+}, bytes {in_bytes:+} blocks and {rest}"
                self.assertEqual(0, rest, what)
                self.assertTrue(0 <= count <= THREADS and 0 <= in_bytes <= THREADS, what)
                ahead[f"{kind}_count"] += count
                ahead[f"{kind}_bytes"] += in_bytes
        self.assertTrue(all(0 <= value <= THREADS for value in ahead.values()), ahead)

    def test_without_a_kill_it_is_exact(self):
        """The same program, ended by itself: no tolerance at all."""
        marker = os.path.join(self.folder, "marker")
        run = self.tracked([support.victim("kill_nine"), marker, "100000"])
        self.assertEqual(0, run.status, run.err)
        report = run.report()
        self.assert_consistent(report)
        allocated, freed, operations = noted(marker)
        self.assertEqual(THREADS * 100000, operations)
        self.assert_comparison_can_fail(report, allocated, freed)
        for i, (leaf, size) in enumerate(LEAVES):
            site = report.site(leaf)
            self.assertEqual((allocated[i], allocated[i] * size, freed[i], freed[i] * size),
                             (site.allocated_count, site.allocated_bytes, site.freed_count, site.freed_bytes), leaf)

    def assert_comparison_can_fail(self, report, allocated, freed):
        report.process["ending"] = "killed"
        self.compare(report, allocated, freed, 0)
        for change in (-THREADS - 1, 1):   # more in the report than can be in flight; less than was noted
            for column in range(len(LEAVES)):
                with self.assertRaises(AssertionError):
                    self.compare(report, [v + change * (i == column) for i, v in enumerate(allocated)], freed, 0)
                with self.assertRaises(AssertionError):
                    self.compare(report, allocated, [v + change * (i == column) for i, v in enumerate(freed)], 0)
