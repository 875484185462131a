"""Which children get a region: grace, follow, regions_max."""
import datetime
import os
import subprocess
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

    def test_frees_do_not_end_the_grace(self):
        run, _ = self.run_children("fork_frees", LONG)
        self.assertEqual(1, len(run.files()))

    def test_generations_of_a_service(self):
        """Without the launcher the ledger lies in the first region, which later generations have not mapped any more."""
        run = self.preloaded([VICTIM, "generations"], LONG)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(5, len(self.assert_table(run)))
        run = self.preloaded([VICTIM, "generations"], {**LONG, "region_size": "16M", "child_region_size": "16M", "regions_max": "64M"})
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(4, len(run.files()))
        self.assertEqual(1, sum(report.coverage["children_over_limit"] for report in run.reports()))

    def test_a_daemon_knows_who_forked_it(self):
        folder = self.new_folder()
        options = ":".join(f"{key}={value}" for key, value in {"dir": folder, **LONG}.items())
        env = support.clean_environment({"REGION_DIR": folder, "LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": options})
        done = subprocess.run([VICTIM, "background"], env=env, capture_output=True, timeout=60, check=True)   # until the daemon has closed its output
        self.assertEqual(b"", done.stderr)
        ppids = {report.pid: report.process["ppid"] for report in map(support.read_report, support.regions_in(folder))}
        self.assertEqual(2, len(ppids))
        self.assertEqual(1, sum(ppid in ppids for ppid in ppids.values()), ppids)

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
        killed = "PYTHONMALLOC=malloc /usr/bin/python3 -S -c 'import os; os.kill(os.getpid(), 9)'"   # what it leaves keeps its size
        run = self.preloaded(["/bin/sh", "-c", f"rm $REGION_DIR/*.tide; for i in 1 2 3 4; do {killed}; done 2>/dev/null; :"],
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

    def lost(self, run):
        self.assertEqual(0, run.status, run.err)
        return run.report().coverage["children_without_preload"]

    def test_programs_whose_environment_lacks_the_library(self):
        """Told to the nearest recorded process, by the shell and its children, and by `env` within its own grace."""
        calls = "true; env -i true; unset LD_PRELOAD; /bin/true; (/bin/true; /bin/true); exec /bin/true"
        grace = {"child_grace": "1h"}
        for how in (self.tracked, self.preloaded):
            run = how(["bash", "-c", calls], grace)
            self.assertEqual(5, self.lost(run))
            text = support.execute([support.TIDEMARK, "report", *run.files()], env=support.clean_environment()).out.decode()
            self.assertIn("5 programs were executed with an environment whose LD_PRELOAD does not name tidemark's library", text)
        # What takes the place of the launched program would have been recorded whatever `follow` says.
        for follow, number in (("none", 1), ("env", 1), ("tru?", 4), ("other,env,t*e", 5)):
            self.assertEqual(number, self.lost(self.tracked(["bash", "-c", calls], {**grace, "follow": follow})), follow)
        self.assertEqual(0, self.lost(self.tracked(["bash", "-c", "env true; true"], grace)))
        nested = f"env -u LD_PRELOAD sh -c 'true; true'; {SHORT} >/dev/null"
        self.assertEqual(1, self.lost(self.tracked(["sh", "-c", f"sh -c \"{nested}\"; true"], {**grace, "child_grace_allocations": "1000000"})))

    def test_programs_that_no_library_gets_into(self):
        source, program = os.path.join(self.folder, "small.c"), os.path.join(self.folder, "small")
        with open(source, "w") as file:
            file.write("int main(void) { return 0; }\n")
        subprocess.run(["cc", "-static", source, "-o", program], check=True)
        script = os.path.join(self.folder, "script")
        with open(script, "w") as file:
            file.write(f"#! {program} -x\n")
        os.chmod(script, 0o755)
        spawned = f"/usr/bin/python3 -c 'import os; os.environ[\"PATH\"] = \"{self.folder}:/bin\"; [os.waitpid(os.posix_spawnp(n, [n], os.environ), 0) for n in (\"small\", \"true\")]'"
        for command, number in ((f"{program}; {program}; /bin/true", 2), (f"{script}; true", 1), (f"true; exec {program}", 1), (f"cd {self.folder}; ./small; PATH=. small; true", 2), (spawned + "; true", 1)):
            with self.subTest(command=command):
                run = self.tracked(["bash", "-c", command], {"child_grace": "1h"})
                self.assertEqual((0, b""), (run.status, run.err))
                self.assertEqual([{"children_not_entered": number}], [report.losses() for report in run.reports() if report.losses()])

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_programs_in_another_place(self):
        """Behind a mount namespace of their own, where the folder can't be written to; the library is there."""
        folder = self.new_folder()
        inside = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec sleep 0.3"
        run = self.preloaded(["unshare", "-m", "sh", "-c", inside], folder=folder)
        if run.status == 32 or b"Operation not permitted" in run.err:
            self.skipTest("nothing can be mounted here")
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual([{"children_elsewhere": 1}], [report.losses() for report in run.reports() if report.losses()])

    def python(self, script, options=None, command=()):
        script = f"import ctypes, os, subprocess\nours = {support.LIBRARY!r}\nlibc = ctypes.CDLL(None)\n" + script
        return self.preloaded([*command, "/usr/bin/python3", "-c", script], {"child_grace": "1h", **(options or {})})

    def test_by_which_ways_the_library_is_lost(self):
        spawn = "os.waitpid(os.{}('true', ['true'], {}), 0)\n"
        script = spawn.format("posix_spawnp", "{}") + spawn.format("posix_spawnp", "{'LD_PRELOAD': ''}")
        script += spawn.format("posix_spawnp", "os.environ") + spawn.format("posix_spawnp", "{'LD_PRELOAD': '/tmp:' + ours + '.other'}")
        script += "subprocess.run(['true'], env={'PATH': '/nowhere:/etc:' + os.environ['PATH']})\n"   # tried in three folders
        script += "subprocess.run(['true'], env={'PATH': os.environ['PATH'], 'LD_PRELOAD': 'libdl.so.2 ' + ours}, close_fds=False)\n"
        self.assertEqual(4, self.lost(self.python(script)))

    def test_an_execution_that_fails_loses_nothing(self):
        script = "none = (ctypes.c_char_p * 1)()\n"
        script += "for place in (b'/nowhere', b'/etc/passwd'): assert libc.execve(place, none, none) == -1\n"
        script += "assert libc.execve(b'/bin/true', none, ctypes.c_void_p(8)) == -1\n"
        script += "assert libc.execve(ctypes.c_void_p(8), none, none) == -1\n"
        script += "assert libc.posix_spawn(None, b'/nowhere', None, None, none, none) == 2\n"
        for follow in ("all", "true"):
            self.assertEqual(0, self.lost(self.python(script, {"follow": follow})))

    def test_a_library_that_did_not_come_by_the_variable(self):
        run = self.python("subprocess.run(['/bin/true'], env={})", None, ["/lib64/ld-linux-x86-64.so.2", "--preload", support.LIBRARY])
        self.assertEqual(1, self.lost(run))   # it is in LD_PRELOAD as well
        script = "subprocess.run(['/bin/true'], env={})"
        command = ["/lib64/ld-linux-x86-64.so.2", "--preload", support.LIBRARY, "/usr/bin/python3", "-c", "import os, subprocess; " + script]
        folder = self.new_folder()
        done = support.plain(command, {"TIDEMARK_OPTIONS": f"dir={folder}"})
        self.assertEqual(0, self.lost(support.Tracked(done, folder)))

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
