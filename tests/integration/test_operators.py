"""Programs and libraries that replace operator new and delete, as the standard allows for each form by itself: these, and the C++ library's
other forms, which are defined to call them, do what they do without the shim. Others' operators are the shim's. Libraries with a cfree of their own."""
import glob
import unittest

import support

KINDS = ("scalar", "array", "aligned")


class Operators(support.TestCase):
    def behaves(self, name, *arguments):
        command = [support.victim(name), *arguments]
        run = self.preloaded(command)
        self.assert_same_behaviour(support.plain(command), run)
        return run.report()

    def test_those_of_the_program(self):
        for kind in KINDS:
            with self.subTest(kind):
                self.assert_consistent(self.behaves(f"own_operators.{kind}"))

    def test_those_of_a_library(self):
        for kind in KINDS:
            with self.subTest(kind):
                self.assert_consistent(self.behaves(f"own_operators.{kind}.library"))

    def test_those_of_a_program_whose_plugin_brings_the_cpp_library(self):
        """Which forms that has is not known when the program starts."""
        for kind in KINDS:
            with self.subTest(kind):
                self.assert_consistent(self.behaves(f"own_operators.{kind}.host", support.victim("libown_operators_plugin.so")))

    def test_what_they_allocate_is_seen(self):
        """Their malloc's stacks lead to the caller, without a frame of the shim's (libstdc++'s other forms call these by a jump)."""
        for name in ("own_operators.scalar", "own_operators.scalar.library"):
            with self.subTest(name):
                report = self.behaves(name)
                callers = {tuple(support.bare(frame["function"]) for frame in support.real_frames(stack)) for stack in report.under("site_array").stacks}
                self.assertTrue(callers)
                for frames in callers:
                    self.assertEqual(("operator new", "site_array", "main"), frames[frames.index("operator new"):][:3])

    def test_those_of_an_allocator_behind_us_are_ours_as_its_malloc_is(self):
        libraries = [path for name in ("jemalloc", "tcmalloc", "mimalloc") for path in glob.glob(f"/usr/lib/*/lib{name}.so.[0-9]")]
        if not libraries:
            self.skipTest("no allocator is installed")
        for library in libraries:
            with self.subTest(library):
                run = self.preloaded([support.victim("operators")], env={"LD_PRELOAD": f"{support.LIBRARY}:{library}"})
                self.assertEqual((0, b""), (run.status, run.err))
                self.assert_table(run)

    def test_functions_by_names_of_the_shims(self):
        """cfree and free_sized of a library's own."""
        self.assert_consistent(self.behaves("uses_own_cfree"))


if __name__ == "__main__":
    unittest.main()
