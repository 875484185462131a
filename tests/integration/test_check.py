"""The stack cache against libunwind: option check re-walks every look-up, and none may differ. Issue 3, "Must hold" 6."""
import support

NAMES = ["single_thread", "many_threads", "reallocs", "operators", "thread_exit", "longjmp_out", "exceptions", "coroutines",
         "alloca_frames"]


class Check(support.TestCase):
    def check(self, command, losses=()):
        run = self.tracked(command, {"check": "1"})
        self.assertEqual(0, run.status, run.err)
        reports = self.assert_table(run, losses)
        (report,) = next(iter(reports.values()))
        self.assertGreater(report.coverage["checks"], 500)
        self.assertEqual(0, report.coverage["checks_disagreed"])
        return report

    def test_deep_recursion(self):
        self.check([support.victim("deep_recursion")], ("cut_stacks",))

    def test_signals(self):
        self.check([support.victim("signals"), "raised"])

    def test_other_library_at_the_same_address(self):
        self.check([support.victim("dl_same_address"), support.victim("libplugin_left.so"),
                    support.victim("libplugin_right.so"), "200"])

    def test_option_is_a_rate(self):
        counts = {}
        for rate in ("0", "1", "100"):
            report = self.tracked([support.victim("single_thread")], {"check": rate}).report()
            counts[rate] = report.coverage["checks"]
        self.assertEqual(0, counts["0"])
        self.assertGreater(counts["1"], 10 * counts["100"])
        self.assertGreater(counts["100"], 10)


def check_test(name):
    return lambda self: self.check([support.victim(name)])


for victim_name in NAMES:
    for build in ("", ".O0", ".fp"):
        setattr(Check, f"test_{victim_name}{build.replace('.', '_')}", check_test(victim_name + build))
