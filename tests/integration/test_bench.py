"""scripts/bench measures what it says: turns that others come in between change no figure, and a program that fails is named."""
import json
import os
import sys
import time

import support

BENCH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench")
sys.path.insert(0, BENCH)
import measure


class Turns(support.TestCase):
    def process(self, *command):
        process = measure.Process(list(command), support.clean_environment(), self.new_folder())
        self.addCleanup(process.kill)
        return process

    def state(self, process):
        with open(f"/proc/{process.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def test_it_stands_still_between_them(self):
        process = self.process("sh", "-c", "while [ ! -e go ]; do :; done; exit 3")
        begun = time.perf_counter()
        self.assertFalse(process.take_turn(0.02))
        self.assertTrue(support.wait_until(lambda: self.state(process) == "T"))
        used = process.cpu_now()
        time.sleep(0.2)
        self.assertEqual(used, process.cpu_now())
        with open(os.path.join(os.path.dirname(process.log), "go"), "w"):
            pass
        self.assertTrue(process.take_turn(support.PATIENCE))
        cost = process.wait(good=(3,))
        self.assertLess(cost.wall, time.perf_counter() - begun - 0.19, "what it stood still is not its time")
        self.assertGreaterEqual(cost.cpu, used - 0.001)

    def test_its_end_falls_between_two(self):
        process = self.process("true")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertFalse(process.take_turn(0))   # not looked at
        self.assertTrue(process.take_turn(1))
        self.assertGreater(process.wait().cpu, 0)

    def test_one_that_fails_is_a_failure(self):
        process = self.process("sh", "-c", "echo why; exit 4")
        self.assertTrue(process.take_turn(support.PATIENCE))
        with self.assertRaisesRegex(measure.Failed, "status 4: .*\nwhy"):
            process.wait()


class Series(support.TestCase):
    def bench(self, *options, library=support.LIBRARY):
        return support.execute(["/usr/bin/python3", os.path.join(BENCH, "bench.py"), "--library", library, "--programs", "nowhere",
                                "--cache", os.path.join(self.folder, "cache"), *options], env=support.clean_environment())

    def test_a_small_one(self):
        done = self.bench("--rounds", "2", "--scale", "0.02", "--workloads", "storm", "--tools", "tidemark", "--json", "-")
        self.assertEqual(0, done.status, done.err)
        figures = json.loads(done.out)
        self.assertTrue(figures["complete"])
        plain, ours = figures["workloads"]
        self.assertEqual([("glibc", 2), ("tidemark", 2)], [(row["tool"], row["runs"]) for row in (plain, ours)])
        self.assertEqual((1, 0), (plain["cpu_ratio"], plain["left_mb"]))
        self.assertEqual(64, ours["left_mb"], "its region")
        self.assertAlmostEqual(ours["cpu_ratio"], sum(ours["cpu_ratios"]) / 2, places=6)
        self.assertIn(b"storm      tidemark", done.err)

    def test_another_build(self):
        done = self.bench("--rounds", "2", "--scale", "0.02", "--workloads", "storm", "--tools", "tidemark", "--other", support.LIBRARY, "--json", "-")
        self.assertEqual(0, done.status, done.err)
        rows = {row["tool"]: row for row in json.loads(done.out)["workloads"]}
        self.assertEqual({"glibc", "tidemark", "other"}, set(rows))
        expected = [ours / other for ours, other in zip(rows["tidemark"]["cpu_ratios"], rows["other"]["cpu_ratios"])]
        for found, right in zip(rows["tidemark"]["cpu_ratios_to_other"], expected, strict=True):
            self.assertAlmostEqual(right, found, places=6)
        self.assertIn(b"the other build's", done.err)
        done = self.bench("--other", "/nonexistent/library.so")
        self.assertEqual(2, done.status)
        self.assertEqual(b"scripts/bench: argument --other: /nonexistent/library.so: no such file\n", done.err)

    def test_a_tool_that_fails(self):
        """The other is measured all the same."""
        broken = os.path.join(self.folder, "broken.so")
        self.assertEqual(0, support.execute(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", broken],
                                            stdin=b"#include <stdlib.h>\n__attribute__((constructor)) void f(void) { abort(); }").status)
        done = self.bench("--rounds", "1", "--scale", "0.02", "--workloads", "storm", "--tools", "tidemark", "--json", "-", library=broken)
        self.assertEqual(1, done.status)
        self.assertIn(b"failed: storm under tidemark", done.err)
        self.assertEqual(["glibc"], [row["tool"] for row in json.loads(done.out)["workloads"]])
