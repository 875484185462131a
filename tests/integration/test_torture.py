"""What strains the shim: stacks that end at once, threads, forks, loads and unloads all at the same time. Counts stay exact."""
import os
import struct
import subprocess
from random import Random

import support


class Torture(support.TestCase):
    def run_victim(self, name, *arguments, losses_allowed=(), **options):
        run = self.tracked([support.victim(name), *arguments], options)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assert_table(run, losses_allowed)
        return run

    def test_hand_made_stacks_end_where_they_end(self):
        report = self.run_victim("hand_made_stacks").report()
        self.assertEqual(0, report.raw["callers_unknown"]["stacks"])
        for stack in report.site("site_at_the_edge").stacks:
            self.assertFalse(stack["truncated"])
            self.assertEqual(["site_at_the_edge", "entry"], [support.bare(f["function"]) for f in stack["frames"]][:2])
        for stack in report.site("site_in_greenlet").stacks:
            self.assertFalse(stack["truncated"])
            self.assertEqual(["site_in_greenlet", "greenlet"], [support.bare(f["function"]) for f in stack["frames"]])

    def test_unwind_data_that_lies_reads_nothing_that_is_not_there(self):
        report = self.run_victim("lying_cfi", losses_allowed=("hard_frames", "cut_stacks", "guessed_frames")).report()
        for stack in report.site("site_under_a_liar").stacks:
            self.assertTrue(support.bare(stack["frames"][1]["function"]).startswith("says_"), stack)
        self.assertGreater(report.losses()["hard_frames"], 0)

    def test_unwind_data_that_lies_reads_nothing_that_goes_meanwhile(self):
        report = self.run_victim("lies_off_the_stack", losses_allowed=("hard_frames", "cut_stacks", "guessed_frames")).report()
        for stack in report.site("site_under_a_liar").stacks:
            self.assertTrue(support.bare(stack["frames"][1]["function"]).startswith("says_"), stack)

    def test_unwind_data_that_is_closed_after_it_was_read(self):
        for way in ("mprotect", "munmap", "syscall"):
            with self.subTest(way=way):
                self.run_victim("closed_unwind_data", way, losses_allowed=("hard_frames", "cut_stacks", "guessed_frames"))

    def test_unwind_data_that_is_closed_while_it_is_read(self):
        """A run without the mend ends by SIGSEGV every third time at least."""
        for way in ("mprotect", "syscall", "filter") * 7:
            with self.subTest(way=way):
                self.run_victim("unwind_data_goes", way, losses_allowed=("hard_frames", "cut_stacks", "guessed_frames"))

    def test_generated_code_that_goes_takes_its_rule_along(self):
        """Whatever lies there later: its callers are seen, as the trampoline's were."""
        report = self.run_victim("changed_code", losses_allowed=("guessed_frames",)).report()
        stacks = report.site("site_in_changed_code").stacks
        self.assertGreater(len(stacks), 0)
        for stack in stacks:
            names = [support.bare(f["function"]) for f in stack["frames"]]
            self.assertEqual(["call", "main"], names[2:4], stack)

    def test_return_addresses_that_were_pushed(self):
        """The stack goes on behind them."""
        report = self.run_victim("pushed_return").report()
        seen = set()
        for stack in report.site("site_behind_a_push").stacks:
            self.assertFalse(stack["truncated"])
            names = [support.bare(f["function"]) for f in stack["frames"]]
            self.assertEqual(["calls_both", "main"], [names[2], names[4]])
            seen.add((names[1], names[3]))
        self.assertLess(report.raw["coverage"]["cache_misses"], 50, "what one of a hundred coroutines' stacks taught is known to the others")
        for stack in report.site("site_on_coroutine").stacks:
            self.assertEqual(["site_on_coroutine", "body"], [support.bare(f["function"]) for f in stack["frames"]][:2])
            self.assertEqual(3, len(stack["frames"]))
        self.assertEqual({(how, way) for how in ("pushes_and_jumps", "pushes_and_returns") for way in ("one_way", "another_way")}, seen)

    def test_damaged_unwind_tables(self):
        """Whatever bytes are in .eh_frame and its table: nothing is read that is not there, no loop is endless, no block is lost."""
        with open(support.victim("single_thread"), "rb") as file:
            sound = file.read()
        sections = {}
        for line in subprocess.run(["readelf", "-SW", file.name], capture_output=True, text=True, check=True).stdout.splitlines():
            words = line.replace("[ ", "[").split()
            if len(words) > 5 and words[1] in (".eh_frame", ".eh_frame_hdr"):
                sections[words[1]] = range(int(words[4], 16), int(words[4], 16) + int(words[5], 16))
        program, random = os.path.join(self.folder, "single_thread"), Random(4)
        count = self.preloaded([file.name]).report().totals["allocated_count"]
        for variant in range(40):
            damaged = bytearray(sound)
            where = sections[".eh_frame_hdr" if variant % 4 == 3 else ".eh_frame"]
            for _ in range(random.choice((1, 5, 50, 500))):
                damaged[random.choice(where)] = random.choice((random.randrange(256), 0x0e, 0x0f, 0x10, 0x16, 0x80, 0xff))
            with open(program, "wb") as file:
                file.write(damaged)
            os.chmod(program, 0o755)
            with self.subTest(variant=variant):
                self.assertEqual(0, support.plain([program]).status)
                run = self.preloaded([program], timeout=20)
                self.assertEqual((0, b""), (run.status, run.err))
                report = run.report()
                self.assert_consistent(report)
                self.assertEqual(count, report.totals["allocated_count"])

    def test_damaged_notes(self):
        """Where a module's build-id should be: nothing is read that is not there."""
        with open(support.victim("single_thread"), "rb") as file:
            sound = file.read()
        program = os.path.join(self.folder, "single_thread")
        headers, size, count = struct.unpack_from("<32xQ14xHH", sound)
        notes = [at for at in range(headers, headers + size * count, size) if struct.unpack_from("<I", sound, at)[0] == 4]   # PT_NOTE
        self.assertGreater(len(notes), 0)

        def build_id(damage):
            damaged = bytearray(sound)
            for at in notes:
                damage(damaged, at)
                struct.pack_into("<Q", damaged, at + 48, 1)   # p_align: such notes glibc itself does not read
            with open(program, "wb") as file:
                file.write(damaged)
            os.chmod(program, 0o755)
            self.assertEqual(0, support.plain([program]).status)
            run = self.preloaded([program], timeout=20)
            self.assertEqual((0, b""), (run.status, run.err))
            return next(module.get("build_id") for module in run.report().raw["modules"] if module["path"] == program)

        def set_header(offset, value):   # of Elf64_Phdr
            return lambda image, at: struct.pack_into("<Q", image, at + offset, value)

        def set_name_size(image, at):
            where, = struct.unpack_from("<Q", image, at + 8)
            struct.pack_into("<I", image, where, 0xfffffff0)
        self.assertTrue(build_id(lambda image, at: None))
        for damage in (set_header(40, 1 << 40), set_header(40, 0xffff), set_header(16, 0x7fffffff), set_header(16, (1 << 64) - 4096), set_name_size):
            self.assertFalse(build_id(damage))

    def test_a_first_allocation_inside_glibc(self):
        self.run_victim("first_allocation")

    def test_threads_forks_and_loaders_at_once(self):
        plugins = [support.victim(f"libplugin_{which}.so") for which in ("closed", "left", "right")]
        self.run_victim("storm", "300", *plugins)

    def test_a_handler_that_interrupted_malloc_forks(self):
        run = self.tracked([support.victim("fork_in_handler")], {"follow": "none"}, timeout=60)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assert_consistent(run.report())

    def test_a_handlers_fork_returns_into_malloc_in_both_processes(self):
        """What the child does of its parent's call is not its parent's."""
        self.run_victim("handler_fork_returns", follow="none")

    def test_a_handlers_fork_where_there_is_no_memory_for_a_copy(self):
        """The child is not recorded, which is counted: of what it does only the interrupted call may be its parent's."""
        run = self.tracked([support.victim("handler_fork_returns"), "poor"], {"follow": "none"})
        self.assertEqual(0, run.status, run.err)
        self.assertIn(b"ran unrecorded; the first, handler_fork_re.", run.err)
        report = run.report()
        self.assert_consistent(report)
        unrecorded, site = report.coverage["children_unrecorded"], report.site("site_often_interrupted")
        (calls,) = (row["allocated_count"] for row in support.Table(run.out).rows)
        self.assertGreater(unrecorded, 0)
        self.assertEqual(0, report.coverage["mappings_forgotten"])
        self.assertTrue(calls <= site.allocated_count <= calls + unrecorded, (calls, site.allocated_count, unrecorded))

    def test_a_handler_that_interrupted_a_question(self):
        for what in ("allocate", "fork"):
            with self.subTest(what):
                run = self.tracked([support.victim("asked_in_handlers"), what], {"follow": "none"}, timeout=60)
                self.assertEqual((0, b""), (run.status, run.err))
                self.assert_consistent(run.report())

    def test_arenas_that_change_while_others_purge(self):
        for what in ("trim", "hooks", "fork", "filter"):
            with self.subTest(what):
                run = self.tracked([support.victim("arenas_at_work"), what], {"cleanup_interval": "100ms", "follow": "none"}, timeout=120)
                if run.status == 77:
                    self.skipTest("no filter can be put here")
                self.assertEqual((0, b""), (run.status, run.err), run.out)
                if what == "fork":   # children that live long enough are recorded, too
                    continue
                report = run.report()
                self.assert_consistent(report)
                self.assertEqual(what == "filter", bool(report.coverage["purges_confined"]))

    def test_data_that_rbp_points_to_is_no_code(self):
        for what in ("heap", "stack"):
            with self.subTest(what):
                run = self.tracked([support.victim("data_for_code"), what])
                self.assertEqual((0, b""), (run.status, run.err))
                report = run.report()
                site = report.site("site_data_for_code")
                self.assertEqual((4000, 4000 * 104), (site.allocated_count, site.live_bytes))
                self.assertLess(len(site.stacks), 100)   # one word in a hundred looks like the end of a call

    def test_data_that_rbp_points_to_goes_away(self):
        with open("/proc/self/status") as status:
            if "Seccomp:\t0\n" not in status.read():
                self.skipTest("under a seccomp filter the kernel is not asked to copy")
        run = self.tracked([support.victim("data_for_code"), "leaving"], timeout=120)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(40_000, run.report().site("site_data_for_code").allocated_count)

    def handlers_at_edges(self, mode, rounds):
        command = [support.victim("handlers_at_edges"), mode, str(rounds)]
        run = self.tracked(command, timeout=120)
        self.assertEqual((0, b""), (run.status, run.err))
        return run

    def test_handlers_come_while_a_thread_is_new_to_the_allocator(self):
        for mode in ("aligned", "usable"):
            with self.subTest(mode):
                self.handlers_at_edges(mode, 1500)

    def test_handlers_come_while_a_thread_ends(self):
        self.handlers_at_edges("end", 3000)

    def test_what_handlers_free_is_freed_without_a_further_call(self):
        self.assert_table(self.handlers_at_edges("deferred", 500))

    def test_what_handlers_did_not_get_is_no_allocation(self):
        self.assertEqual({}, self.handlers_at_edges("refused", 500).report().losses())

    def test_new_fails_while_a_library_is_being_loaded(self):
        command = [support.victim("failed_new"), support.victim("libfailed_new_plugin.so")]
        run = self.tracked(command, timeout=60)
        self.assertEqual((0, b"caught\n", b""), (run.status, run.out, run.err))

    def test_memory_runs_out(self):
        """Its own threads as well as ours find none for their first call."""
        for what, limit, mib in (("wait", "data", 48), ("thread", "data", 48), ("thread", "as", 110), ("wait", "as", 110),
                                 ("little", "as", 400), ("little", "data", 400)):
            with self.subTest(what, limit=limit):
                run = self.preloaded([support.victim("exhausted"), what, limit, str(mib)], timeout=60)
                self.assertEqual((0, b""), (run.status, run.err))

    def test_a_handler_that_jumps_to_a_coroutine(self):
        report = self.tracked([support.victim("jump_on_coroutine")]).report()
        site = report.site("site_later")
        self.assertEqual((1010, 10), (site.allocated_count, site.live_count))
        self.assert_consistent(report)

    def test_a_handler_that_interrupted_fork_ends_the_process(self):
        for what, ending in (("exit", "exited"), ("exec", "replaced"), *((other, "exited") for other in ("allocate", "leave", "fork", "jump"))):
            for moment in range(10_000, 20_000, 1_000):
                with self.subTest(what, microseconds=moment):
                    run = self.preloaded([support.victim("fork_interrupted"), what, str(moment)], {"follow": "none"}, timeout=30)
                    self.assertEqual((7, b""), (run.status, run.err))
                    (region,) = [file for file in run.files() if "fork_interrupted" in file]
                    self.assertEqual(ending, support.read_report(region).process["ending"])
