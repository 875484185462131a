"""What a malloc + free costs in instructions, counted by callgrind: the same on any machine, however busy, for
only the thread that calls them is counted. Each bound has room for a compiler's whims,
and none for 20 % more than the figure beside it; who makes it cheaper lowers it."""
import os
import re
import shutil
import unittest

import support

FEW, MANY = 2000, 12000


@unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
class HotPath(support.TestCase):
    def instructions(self, victim, depth, how, *, tracked=True):
        """Of one pair, the calls that lead to it included."""
        counts = []
        for pairs in (FEW, MANY):
            command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no",
                       "--toggle-collect=run_pairs", support.victim(victim), str(pairs), str(depth), how]
            run = self.preloaded(command) if tracked else support.plain(command)
            found = re.search(rb"Collected : (\d+)", run.err)
            self.assertTrue(found, run.err)
            counts.append(int(found.group(1)))
        return (counts[1] - counts[0]) / (MANY - FEW)

    def check(self, bounds, how):
        over = []
        for (victim, depth), bound in bounds.items():
            added = self.instructions(victim, depth, how) - self.instructions(victim, depth, how, tracked=False)
            if os.environ.get("TIDEMARK_SHOW"):
                print(f"{victim} {how} at depth {depth}: {added:.0f} instructions more than glibc's, at most {bound}")
            if added > bound:
                over.append(f"{victim} at depth {depth}: {added:.0f}, at most {bound}")
        self.assertEqual([], over)

    def test_the_same_stack_again(self):
        self.check({("pairs", 4): 150, ("pairs", 12): 190, ("pairs", 28): 267, ("pairs.fp", 12): 252}, "same")   # 140, 178, 254, 241

    def test_stacks_that_take_turns(self):
        self.check({("pairs", 12): 230, ("pairs.fp", 12): 295}, "turns")   # 212, 274
