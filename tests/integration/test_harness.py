"""The harness itself: a wrong figure, a missing region, a wrong caller or a loss must make a test fail."""
import copy
import json
import unittest

import support

REPORT = {
    "process": {"pid": 7, "ppid": 1, "ending": "exited", "exit_status": 0},
    "totals": {"allocated_bytes": 124, "allocated_count": 4, "freed_bytes": 24, "freed_count": 1, "live_bytes": 100,
               "live_count": 3, "peak_live_bytes": 124, "inherited_bytes": 0, "inherited_count": 0},
    "coverage": {"nested_allocations": 0, "checks": 5},
    "sites": [
        {"stack_id": 65, "live_bytes": 48, "live_count": 2, "allocated_bytes": 72, "allocated_count": 3, "freed_bytes": 24,
         "freed_count": 1, "peak_live_bytes": 72, "inherited_live_bytes": 0, "inherited_live_count": 0,
         "frames": [{"function": "site_a(int)", "module": "/x/victim", "inlined": False},
                    {"function": "void inlined()", "module": "/x/victim", "inlined": True},
                    {"function": "main", "module": "/x/victim", "inlined": False}]},
        {"stack_id": 66, "live_bytes": 52, "live_count": 1, "allocated_bytes": 52, "allocated_count": 1, "freed_bytes": 0,
         "freed_count": 0, "peak_live_bytes": 52, "inherited_live_bytes": 0, "inherited_live_count": 0,
         "frames": [{"function": None, "module": None, "inlined": False}]},
    ],
}
ROW = {"pid": 7, "site": "site_a", "allocated_count": 3, "allocated_bytes": 72, "freed_count": 1, "freed_bytes": 24}


def table(*rows):
    return support.Table(b"\n".join(json.dumps(row).encode() for row in rows))


def report(change=lambda raw: None):
    raw = copy.deepcopy(REPORT)
    change(raw)
    return support.Report(raw)


class HarnessNotices(unittest.TestCase):
    def test_a_right_table(self):
        self.assertEqual([], table(ROW).differences({7: [report()]}))
        self.assertEqual([], report().contradictions())

    def test_each_wrong_figure(self):
        for key in ("allocated_count", "allocated_bytes", "freed_count", "freed_bytes"):
            self.assertEqual(1, len(table({**ROW, key: ROW[key] + 1}).differences({7: [report()]})), key)

    def test_a_site_that_is_not_there(self):
        self.assertTrue(table({**ROW, "site": "site_b"}).differences({7: [report()]}))

    def test_missing_and_unwanted_regions(self):
        self.assertTrue(table(ROW).differences({}))
        self.assertTrue(table({"pid": 7, "region": True}).differences({}))
        self.assertTrue(table({"pid": 7, "region": False}).differences({7: [report()]}))

    def test_wrong_callers(self):
        right = table({"pid": 7, "site": "site_a", "callers": "main"})
        self.assertEqual([], right.differences({7: [report()]}))
        self.assertTrue(table({"pid": 7, "site": "site_a", "callers": "other"}).differences({7: [report()]}))
        self.assertTrue(table({"pid": 7, "site": "site_b", "callers": "main"}).differences({7: [report()]}))

    def test_the_last_image_of_a_pid_counts(self):
        older = report(lambda raw: raw["sites"].pop(0))
        self.assertEqual([], table(ROW).differences({7: [older, report()]}))
        self.assertTrue(table(ROW).differences({7: [report(), older]}))

    def test_contradictions(self):
        for change in (
            lambda raw: raw["totals"].update(live_count=4),
            lambda raw: raw["totals"].update(allocated_bytes=125, live_bytes=101),
            lambda raw: raw["sites"][0].update(live_bytes=-1),
            lambda raw: raw["sites"][0].update(freed_count=2),
            lambda raw: raw["sites"][0].update(inherited_live_bytes=8),
            lambda raw: raw["sites"][0].update(peak_live_bytes=47),
            lambda raw: raw["totals"].update(peak_live_bytes=99),
            lambda raw: raw["sites"][1]["frames"][0].update(module="/y/libtidemark.so"),
        ):
            self.assertTrue(report(change).contradictions())

    def test_losses(self):
        self.assertEqual({}, report().losses())
        self.assertEqual({"nested_allocations": 2}, report(lambda raw: raw["coverage"].update(nested_allocations=2)).losses())

    def test_names(self):
        for text, name in (("f(int, char)", "f"), ("f", "f"), ("path<1, 2>(unsigned)", "path"), ("f.constprop.0", "f"), (None, "")):
            self.assertEqual(name, support.bare(text))


class HarnessEndToEnd(support.TestCase):
    def test_a_lying_victim_fails(self):
        run = self.tracked([support.victim("single_thread"), "lie"])
        with self.assertRaises(AssertionError) as caught:
            self.assert_table(run)
        self.assertIn("site_boundary", str(caught.exception))
        self.assertNotIn("site_small", str(caught.exception))

    def test_a_hanging_command_fails(self):
        with self.assertRaises(AssertionError):
            support.execute(["/bin/sleep", "1000"], timeout=1)
