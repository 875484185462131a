"""Which children get a region: grace, follow, regions_max."""
import datetime
import os
import unittest

import support

VICTIM = support.victim("children")
SHORT = support.victim("single_thread")   # makes 10 000 allocations and ends
LONG = {"child_grace": "1h", "child_grace_allocations": "4096"}


class Children(support.TestCase):
    def run_children(self, mode, options=None, losses=(), status=0):
        run = self.tracked([VICTIM, mode], options)
        self.assertEqual((status, b""), (run.status, run.err))
        return run, self.assert_table(run, losses)

    def child(self, reports):
        (report,) = [r for of_pid in reports.values() for r in of_pid if r.process["ppid"] in reports]
        return report

    def test_shell_loop_leaves_nothing(self):
        """200 short commands: only bash's own region."""
        loop = "for i in $(seq 200); do /bin/true; ls / >/dev/null; done; echo done"
        run = self.tracked(["bash", "-c", loop], {"child_grace": "10m", "child_grace_allocations": "1000000"})
        self.assertEqual((0, b"done\n", b""), (run.status, run.out, run.err))
        self.assertEqual(1, len(run.files()), run.files())
        self.assertTrue(os.path.basename(run.files()[0]).startswith("bash."))

    def test_program_that_outlives_its_grace(self):
        _, reports = self.run_children("exec_long_lived")
        self.assertEqual(2, len(reports))
        child = self.child(reports)
        # What came before the region is in it: the long grace and early end of allocation say so.
        self.assertEqual(500, child.site("site_early").allocated_count)

    def test_launched_program_has_its_region_at_once(self):
        run, reports = self.run_children("long_lived", LONG)
        self.assertEqual(1, len(reports))

    def test_allocations_end_the_grace_of_a_fork(self):
        _, reports = self.run_children("fork_busy", LONG)
        self.assertEqual(2, len(reports))

    def test_a_fork_is_as_old_as_itself(self):
        """Though its ticks go on from its parent's, who had lived for two seconds."""
        _, reports = self.run_children("fork_late", {"child_grace": "50ms", "sample_interval": "100ms", "baseline_after": "100ms"})
        child = self.child(reports)
        ((parent,),) = [of_pid for pid, of_pid in reports.items() if pid != child.pid]
        duration = child.process["duration_s"]
        self.assertGreater(duration, 0.9)
        self.assertLess(duration, parent.process["duration_s"] - 1.8)
        (site,) = child.site("site_many").stacks
        times = [site["first_s"], site["last_s"], site["oldest_live_s"], child.raw["baseline"]["at_s"], child.raw["ledger"]["at_s"],
                 *[time for point in child.raw["series"] for time in (point["from_s"], point["at_s"])]]
        self.assertLess(max(times), duration + 0.1, times)

    def test_allocations_end_the_grace_of_a_program(self):
        _, reports = self.run_children("exec_busy", LONG)
        self.assertEqual(2, len(reports))

    def test_a_child_of_one_that_was_refused(self):
        run = self.preloaded([VICTIM, "refused"])
        self.assertEqual((0, b""), (run.status, run.err))
        self.assert_table(run, ("children_unrecorded", "inherited_unknown_bytes"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_child_that_acts_for_another_user(self):
        """Who may then write to the folder, but gets no file there that tells this process what to do."""
        os.chmod(self.folder, 0o755)
        folder = self.new_folder()
        os.chmod(folder, 0o1777)
        run = self.preloaded([VICTIM, "acting"], folder=folder)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assert_table(run)
        self.assertEqual([0, 0], [os.stat(path).st_uid for path in run.files()])

    def test_regions_max_without_a_ledger(self):
        """The first region, which holds it, was removed."""
        short = f"for i in 1 2 3 4; do {SHORT} >/dev/null; done"
        run = self.preloaded(["/bin/sh", "-c", f"rm $REGION_DIR/*.tide; {short}"],
                             {"region_size": "16M", "child_region_size": "16M", "regions_max": "40M"})
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(2, len(run.files()), run.files())

    def test_the_clock_goes_on_when_allocations_have_ended_the_grace(self):
        _, reports = self.run_children("exec_lasting", {**LONG, "sample_interval": "100ms"})
        child = self.child(reports)
        process = child.process
        self.assertTrue(child.raw["series"], "sampled, too")
        started, ended = (datetime.datetime.fromisoformat(process[key]) for key in ("started_at", "ended_at"))
        self.assertAlmostEqual((ended - started).total_seconds(), process["duration_s"], delta=0.3)

    def test_within_its_grace_a_child_leaves_nothing(self):
        for mode in ("fork_quiet", "exec_quiet"):
            with self.subTest(mode=mode):
                run, reports = self.run_children_without_table(mode, LONG)
                self.assertEqual(1, len(run.files()))

    def run_children_without_table(self, mode, options):
        run = self.tracked([VICTIM, mode], options)
        self.assertEqual((0, b""), (run.status, run.err))
        reports = {}
        for report in run.reports():
            self.assert_consistent(report)
            reports.setdefault(report.pid, []).append(report)
        self.assertEqual([], support.Table(run.out).differences(reports))
        return run, reports

    def test_follow_none(self):
        """The program itself, its forks, and nothing that they start."""
        run = self.tracked(["bash", "-c", f"{SHORT}; {SHORT} >/dev/null; echo end"], {"follow": "none"})
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(1, len(run.files()), run.files())
        self.assertEqual(2, run.report().coverage["children_not_followed"])

    def test_follow_by_name(self):
        names = {}
        for follow in ("children", "chil*", "other,chi?dren", "other"):
            run = self.tracked(["bash", "-c", f"{VICTIM} fork_busy; {SHORT}; exec {SHORT}"], {"follow": follow, "child_grace": "1h"},
                               env={"REGION_DIR": ""} if follow == "other" else {})   # else it would wait in vain
            self.assertEqual((0, b""), (run.status, run.err))
            names[follow] = [os.path.basename(f).split(".")[0] for f in run.files()]
        # `children` itself stays below 4096 allocations, its fork does not. What takes the place of the launched program
        # (`sh -c 'exec server'`) is recorded whatever its name.
        both = ["bash", "children", "single_thread"]
        self.assertEqual({"children": both, "chil*": both, "other,chi?dren": both, "other": ["bash", "single_thread"]}, names)

    def test_regions_max(self):
        """64 MiB for the program and 16 MiB for one child fit, a second child's do not: its parent's region says so."""
        run = self.tracked([VICTIM, "two_sleepers"], {**LONG, "regions_max": "84M"})
        self.assertEqual(0, run.status, run.err)
        self.assertEqual(2, len(run.files()))
        (parent,) = [r for r in run.reports() if os.path.getsize(r.path) and r.site("site_many").allocated_count == 0]
        self.assertEqual(1, parent.coverage["children_over_limit"])
        said = [line for line in run.err.decode().splitlines() if line.startswith("tidemark: ")]
        self.assertEqual(1, len(said), run.err)
        self.assertIn("regions_max", said[0])

    def test_regions_max_below_the_first_region(self):
        run = self.tracked([SHORT], {"regions_max": "1M"})
        self.assertEqual(0, run.status)
        self.assertEqual([], run.files())
        self.assertIn(b"regions_max", run.err)

    def test_region_sizes(self):
        """The tail of an ended region is given back; the apparent size never exceeds what was asked for."""
        run, _ = self.run_children("fork_busy", {**LONG, "region_size": "32M", "child_region_size": "8M"})
        sizes = sorted(os.path.getsize(f) for f in run.files())
        self.assertLessEqual(sizes[0], 8 << 20)
        self.assertLess(sizes[1], 32 << 20)
