"""Programs with known allocations: every site's figures must be exactly those. Issue 3, "Must hold" 3."""
import collections
import os
import subprocess

import support

# name → arguments (files of the victims folder where they end in .so)
VICTIMS = {
    "single_thread": [],
    "many_threads": [],
    "reallocs": [],
    "aligned": [],
    "operators": [],
    "dlclosed": ["libplugin_closed.so"],
    "thread_exit": [],
    "longjmp_out": [],
    "exceptions": [],
    "coroutines": [],
    "alloca_frames": [],
}
BUILDS = ["", ".O0", ".fp"]
STORM = 5000   # kStorm in signals.cpp


class Exactness(support.TestCase):
    def run_victim(self, name, build, losses=()):
        arguments = [support.victim(a) if a.endswith(".so") else a for a in VICTIMS.get(name, [])]
        return self.run_command([support.victim(name + build), *arguments], losses)

    def run_command(self, command, losses=()):
        run = self.tracked(command)
        self.assertEqual(0, run.status, run.err)
        self.assertEqual(b"", run.err)
        reports = self.assert_table(run, losses)
        self.assertEqual(1, len(reports))
        return run.report()

    def test_dlclosed_library_keeps_its_lines(self):
        report = self.run_victim("dlclosed", "")
        for stack in report.site("plugin_closed_site").stacks:
            self.assertTrue(stack["frames"][0]["module"].endswith("libplugin_closed.so"))
            self.assertTrue((stack["frames"][0]["file"] or "").endswith("plugin.cpp"))
            self.assertGreater(stack["frames"][0]["line"], 0)

    def test_frames_of_any_size_are_few_stacks(self):
        for build in BUILDS:
            with self.subTest(build):
                self.assertLess(self.run_victim("alloca_frames", build).coverage["stacks"], 1000)

    def test_functions_that_the_linker_removed(self):
        report = self.run_victim("removed_functions", "")
        names = {f["function"] for site in report.sites for f in site["frames"]}
        self.assertEqual(set(), {name for name in names if name and "removed" in name})
        (stack,) = report.site("site_kept").stacks
        self.assertTrue(stack["frames"][0]["file"].endswith("/removed_functions.cpp"))

    def test_arenas_that_jemalloc_drops(self):
        command = [support.victim("dropped_arenas")]
        run = self.tracked(command)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(support.plain(command).out, run.out)
        self.assertEqual(["0", "0", "0"], [line.split()[-1] for line in run.out.decode().splitlines()[:3]])
        report = run.report()
        self.assert_consistent(report)
        figures = {name: [(s["allocated_count"], s["freed_count"], s["live_bytes"]) for s in report.site("site_" + name).stacks]
                   for name in ("reset", "after_reset", "by_number", "refused", "elsewhere")}
        gone = [(110, 110, 0)]
        self.assertEqual({"reset": gone, "after_reset": gone, "by_number": gone, "refused": [(110, 10, 1_090_000)],
                          "elsewhere": [(100, 0, 100_000)]}, figures)
        self.assertLess(report.totals["live_bytes"], 1_300_000)

    def test_exchanged_calls(self):
        """Stacks that differ only in the order of two return addresses of one function."""
        for build in BUILDS:
            run = self.tracked([support.victim("exchanged_calls" + build)])
            self.assertEqual((0, b""), (run.status, run.err))
            sites = [s for s in run.report().sites if s["frames"] and s["frames"][0]["function"] == "descend"]
            self.assertEqual(int(run.out), len(sites), build)
            self.assertEqual({3}, {s["allocated_count"] for s in sites}, build)
            sizes = collections.Counter(s["allocated_bytes"] / 3 for s in sites)
            self.assertEqual({3}, set(sizes.values()), build)

    def test_relative_folders(self):
        """-ffile-prefix-map makes the compiler's folder relative, as in packages of Debian."""
        below = os.path.join(self.folder, "sub")
        os.makedirs(os.path.join(below, "sub"))
        for name in ("leak.c", "sub/leak.c"):
            with open(os.path.join(below, name), "w") as file:
                file.write('#include <stdlib.h>\n#include "leak.h"\nint main(void) { return leak() == 0; }\n')
            with open(os.path.join(below, name[:-1] + "h"), "w") as file:
                file.write("static inline __attribute__((always_inline)) char* leak(void) { return malloc(112); }\n")
        program = os.path.join(self.folder, "program")
        for version in ("-gdwarf-4", "-gdwarf-5"):
            for source, place in (("leak.c", "sub/leak"), ("../sub/leak.c", "sub/leak"), ("sub/leak.c", "sub/sub/leak"),
                                  (os.path.join(below, "leak.c"), "sub/leak")):
                with self.subTest(version=version, source=source):
                    compiler = ["gcc", "-O1", "-g", version, f"-ffile-prefix-map={self.folder}=.", source, "-o", program]
                    subprocess.run(compiler, cwd=below, check=True)
                    (stack,) = self.tracked([program]).report().under("main").stacks
                    self.assertEqual([(place + ".h", 1), (place + ".c", 3)], [(f["file"], f["line"]) for f in stack["frames"][:2]])

    def test_large_frames_on_a_small_stack(self):
        self.run_victim("large_frames", "")

    def test_single_thread_peaks_and_lines(self):
        report = self.run_victim("single_thread", "")
        self.assertEqual(0, report.coverage["peak_error_bytes"])
        # All are allocated before any is freed.
        self.assertEqual(3 * ((9 << 20) + 13), self.peak_sum(report, "site_huge"))
        self.assertEqual(4000 * 24, self.peak_sum(report, "site_small"))
        self.assertEqual(2, len(report.site("site_small").stacks), "two callers: two stacks")
        self.assertTrue(report.site("site_small").stacks[0]["frames"][0]["file"].endswith("single_thread.cpp"))
        self.assertGreaterEqual(report.totals["peak_live_bytes"], report.totals["live_bytes"])

    def test_stacks_that_take_turns(self):
        for build in ("", ".fp"):
            with self.subTest(build=build):
                run = self.tracked([support.victim("pairs" + build), "16000", "12", "turns"])
                self.assertEqual((0, b""), (run.status, run.err))
                ways = {}   # which of the two functions, from the innermost frame outwards -> figures
                for site in run.report().sites:
                    names = [f["function"] or "" for f in site["frames"]]
                    if any(name.startswith("run_pairs") for name in names):
                        way = tuple("two_ways<1" in name for name in names if "two_ways<" in name)
                        ways.setdefault(way, []).append((site["allocated_count"], site["freed_count"], site["allocated_bytes"]))
                self.assertEqual({13}, {len(way) for way in ways})
                self.assertEqual([[(1000, 1000, 64000)]] * 16, list(ways.values()))

    @staticmethod
    def peak_sum(report, function):
        return sum(s["peak_live_bytes"] for s in report.site(function).stacks)

    def test_preloaded_without_run(self):
        run = self.preloaded([support.victim("single_thread")])
        self.assertEqual((0, b""), (run.status, run.err))
        self.assert_table(run)

    def test_deep_recursion(self):
        for build in BUILDS:
            with self.subTest(build=build):
                report = self.run_command([support.victim("deep_recursion" + build)], losses=("cut_stacks",))
                for stack in report.site("site_at_the_bottom").stacks:
                    names = [support.bare(f["function"]) for f in support.real_frames(stack)]
                    if stack["truncated"]:
                        self.assertGreater(report.coverage["cut_stacks"], 0)
                        self.assertGreaterEqual(len(names), 128)
                        self.assertEqual({"recurse"}, set(names[1:]))
                    else:
                        self.assertEqual(10000, names.count("recurse"))
                        self.assertEqual("main", names[10001])

    def test_signals_on_alternate_stack(self):
        for build in BUILDS:
            for mode in ("raised", "nested"):
                with self.subTest(build=build, mode=mode):
                    self.run_command([support.victim("signals" + build), mode])

    def test_other_library_at_the_same_address(self):
        for build in BUILDS:
            with self.subTest(build=build):
                run = self.tracked([support.victim("dl_same_address" + build), support.victim("libplugin_left.so"),
                                    support.victim("libplugin_right.so"), os.environ.get("TIDEMARK_ROUNDS", "2000")])
                self.assertEqual(0, run.status, run.err)
                self.assert_table(run)
                self.assertLess(support.used_pages(run.files()[0]), 64, "a library that comes again needs no fresh room")

    def test_generated_code_where_a_library_comes(self):
        """With the library's return addresses: its allocations are the library's."""
        run = self.tracked([support.victim("code_before_library"), support.victim("libplugin_left.so")])
        self.assertEqual(0, run.status, run.err)
        self.assert_table(run, ("guessed_frames",))


def add_victim_test(name, build):
    def test(self):
        self.run_victim(name, build)
    setattr(Exactness, f"test_{name}{build.replace('.', '_')}", test)


for victim_name in VICTIMS:
    for victim_build in BUILDS:
        add_victim_test(victim_name, victim_build)


class SignalStorm(support.TestCase):
    """Handlers that interrupt the allocator itself: their blocks have no stack, but none is lost from the sum."""

    def test_storm(self):
        for build in BUILDS:
            with self.subTest(build=build):
                # No plain run to compare with: glibc's malloc deadlocks here.
                run = self.tracked([support.victim("signals" + build), "storm"])
                self.assertEqual(0, run.status, run.err)
                self.assertEqual(1, len(self.assert_table(run, ("nested_allocations", "nested_bytes"))))
                report = run.report()
                site, coverage = report.site("site_in_storm"), report.coverage
                self.assertEqual(STORM, site.allocated_count + coverage["nested_allocations"])
                self.assertEqual(STORM * 560, site.allocated_bytes + coverage["nested_bytes"])
                self.assertEqual(560 * coverage["nested_allocations"], coverage["nested_bytes"])
                self.assertEqual(site.live_count * 560, site.live_bytes)
                self.assertLessEqual(site.freed_count, STORM // 2)
                self.assertGreater(site.allocated_count, STORM // 10)

    def test_while_a_child_gets_its_region(self):
        """Handlers wait until that is done: what they allocated meanwhile would be taken for the shim's own."""
        grace = {"child_grace": "1h", "child_grace_allocations": "2000"}
        run = self.tracked(["sh", "-c", f"{support.victim('signals')} alone; true"], grace)
        self.assertEqual((0, b""), (run.status, run.err))
        (report,) = [r for r in run.reports() if os.path.basename(r.path).startswith("signals")]
        site, coverage = report.site("site_in_storm"), report.coverage
        self.assertEqual(STORM, site.allocated_count + coverage["nested_allocations"])
