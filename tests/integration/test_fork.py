"""fork and its relatives: who has a region, and what is in it."""
import support

VICTIM = support.victim("fork_child")
LONG_GRACE = {"child_grace": "10m", "child_grace_allocations": "100000"}   # nothing here lives that long


class Fork(support.TestCase):
    def fork(self, mode, options=None, losses=()):
        plain = support.plain([VICTIM, mode])
        self.assertEqual(0, plain.status, plain.err)
        run = self.tracked([VICTIM, mode], options)
        self.assertEqual((0, b""), (run.status, run.err))
        reports = self.assert_table(run, losses)
        launched = [r for r in run.reports() if r.pid not in self.children_of(run)]
        self.assertEqual(1, len(launched))
        return run, reports

    @staticmethod
    def children_of(run):
        pids = {r.pid for r in run.reports()}
        return {r.pid for r in run.reports() if r.process["ppid"] in pids}

    def family(self, reports):
        """pid of parent → child for each recorded child."""
        return {report.pid: report.process["ppid"] for of_pid in reports.values() for report in of_pid
                if report.process["ppid"] in reports}

    def test_child_goes_on(self):
        _, reports = self.fork("lives")
        self.assertEqual(2, len(reports))
        self.assertEqual(1, len(self.family(reports)), "the child's region names its parent")
        child = next(iter(self.family(reports)))
        self.assertEqual("exited", reports[child][0].process["ending"])
        self.assertEqual(7, reports[child][0].process["exit_status"])

    def test_child_totals(self):
        _, reports = self.fork("lives")
        child = reports[next(iter(self.family(reports)))][0]
        before = child.site("site_before_fork")
        self.assertEqual((40, 40 * 592), (before.inherited_live_count, before.inherited_live_bytes))
        self.assertGreaterEqual(child.totals["inherited_count"], 40)
        self.assertGreaterEqual(child.totals["inherited_bytes"], 40 * 592)
        self.assertEqual((75, 60), (child.totals["allocated_count"], child.totals["live_count"]),
                         "the child's totals are its own allocations alone")

    def test_idle_child_has_a_region(self):
        _, reports = self.fork("idle")
        self.assertEqual(2, len(reports))

    def test_exec_at_once_leaves_nothing(self):
        run, reports = self.fork("exec", LONG_GRACE)
        self.assertEqual(1, len(run.files()))
        self.assertEqual(1, len(reports))

    def test_short_child_leaves_nothing(self):
        run, _ = self.fork("short", LONG_GRACE)
        self.assertEqual(1, len(run.files()))

    def test_grandchild(self):
        _, reports = self.fork("tree")
        self.assertEqual(3, len(reports))
        self.assertEqual(2, len(self.family(reports)))

    def test_grandchild_born_in_the_childs_grace(self):
        _, reports = self.fork("in_grace")
        self.assertEqual(3, len(reports))

    def test_fork_beside_allocating_threads(self):
        self.fork("threads")

    def test_fork_in_a_thread_whose_function_returns(self):
        self.fork("in_thread")

    def test_vfork(self):
        run, _ = self.fork("vfork", LONG_GRACE)
        self.assertEqual(1, len(run.files()))

    def test_vfork_in_a_childs_grace(self):
        _, reports = self.fork("vfork_in_grace", {"child_grace": "10m", "child_grace_allocations": "100"})
        child = reports[next(iter(self.family(reports)))][0]
        self.assertEqual(("exited", 7, 0), (child.process["ending"], child.process["exit_status"], child.losses().get("keeper_missing", 0)))

    def test_posix_spawn_and_system(self):
        run, _ = self.fork("spawn", LONG_GRACE)
        self.assertEqual(1, len(run.files()))

    def test_a_child_unmaps_the_stack_of_a_thread_it_does_not_have(self):
        """What it notes of that is not its parent's."""
        run, _ = self.fork("unmaps_stack", LONG_GRACE)
        self.assertEqual(2, run.report().raw["process"]["threads_now"])

    def test_underscore_fork(self):
        self.fork("under_fork", losses={"keeper_missing"})

    def test_raw_clone(self):
        self.fork("clone", losses={"keeper_missing"})


class BareChildren(support.TestCase):
    """No fork handler makes them ready, so they have no keeper: their own calls do what is most needed of it."""
    VICTIM = support.victim("bare_children")
    FEW = {"child_grace": "50ms", "child_grace_allocations": "100000"}   # time alone ends it
    LOSSES = {"keeper_missing", "nested_allocations", "nested_bytes"}   # glibc's fork allocates, in a handler that interrupted malloc

    def children(self, *arguments):
        plain = support.plain([self.VICTIM, *arguments])
        self.assertEqual((0, b""), (plain.status, plain.err))
        run = self.tracked([self.VICTIM, *arguments], self.FEW)
        self.assertEqual((0, b""), (run.status, run.err))
        reports = [report for of_pid in self.assert_table(run, self.LOSSES).values() for report in of_pid]
        return [report for report in reports if report.process["origin"] == "forked"]

    def assert_alive(self, children):
        """Recorded, and its time goes on."""
        for child in children:
            self.assertEqual(("exited", 7), (child.process["ending"], child.process["exit_status"]))
            (first,), (last,) = (child.site(site).stacks for site in ("site_at_once", "site_at_last"))
            self.assertGreater(last["last_s"] - first["last_s"], 1.25, child.path)

    def test_underscore_fork(self):
        (child,) = children = self.children("under_fork")
        self.assert_alive(children)
        self.assertEqual(1, child.coverage["keeper_missing"])

    def test_raw_clone(self):
        (child,) = children = self.children("clone")
        self.assert_alive(children)
        self.assertEqual(1, child.coverage["keeper_missing"])

    def test_fork_in_a_handler_inside_malloc(self):
        children = self.children("handler")
        self.assertEqual(20, len(children))
        self.assert_alive(children)
        self.assertEqual({0, 1}, {0} | {child.coverage["keeper_missing"] for child in children})

    def test_one_that_ends_without_another_call(self):
        for way in ("under_fork", "clone", "handler"):
            with self.subTest(way):
                self.children(way, "ends")
