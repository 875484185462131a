"""The shim's hooks: what they export, and programs that must not notice them."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

LIBRARY = os.environ["TIDEMARK_LIB"]
VICTIMS = os.environ["VICTIMS_DIR"]
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PATIENCE = 120

with open(os.path.join(SOURCE, "preload", "exports.map")) as exports_map:
    LISTED = set(re.findall(r"[A-Za-z_]\w*(?=;)", re.sub(r"#.*|local:.*", "", exports_map.read())))


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Hooked(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def run_victim(self, name, *arguments, preload=None, options=""):
        env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "TIDEMARK_OPTIONS", "TIDEMARK_RUN")}
        if preload:
            env["LD_PRELOAD"] = preload
            env["TIDEMARK_OPTIONS"] = f"dir={self.folder}:region_size=4M:child_region_size=4M{options}"
        done = subprocess.run([os.path.join(VICTIMS, name), *arguments], env=env, capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, done.stdout, done.stderr

    def assert_unnoticed(self, name, *arguments, compare_errors=True):
        self.maxDiff = None
        status, out, err = self.run_victim(name, *arguments)
        self.assertGreaterEqual(status, 0, "the victim fails without the shim")
        for options in ("", ":enable=0"):
            with self.subTest(name=name, arguments=arguments, options=options):
                hooked_status, hooked_out, hooked_err = self.run_victim(name, *arguments, preload=LIBRARY, options=options)
                self.assertEqual(hooked_out.splitlines(), out.splitlines())
                self.assertEqual(hooked_status, status)
                if compare_errors:
                    self.assertEqual(hooked_err, err)
        return out, err


class Exports(unittest.TestCase):
    def test_exactly_the_hooks(self):
        defined = {line.split()[-1] for line in output_of("nm", "-D", "--defined-only", LIBRARY).splitlines()}
        self.assertEqual(defined, LISTED)

    def test_no_way_of_throwing_of_its_own(self):
        """An undefined __cxa_throw would need libstdc++ in every C program; one inside would throw past the host's."""
        names = output_of("nm", "-D", LIBRARY).split()
        self.assertFalse([name for name in names if name.startswith(("__cxa_throw", "__cxa_begin_catch", "_ZSt17__throw"))])
        needed = re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-dW", LIBRARY))
        self.assertFalse([library for library in needed if library.startswith(("libstdc++", "libjemalloc", "libc++"))], needed)

    def test_dlopen_is_left_by_a_jump(self):
        code = output_of("objdump", "-d", "--no-show-raw-insn", "--disassemble=dlopen", LIBRARY)
        self.assertRegex(code, r"\bjmp\s+\*")
        self.assertNotRegex(code, r"\bcall\s+\*")


class MallocFamily(Hooked):
    def test_edges_are_those_of_glibc(self):
        self.assert_unnoticed("api_edges")

    def test_new_and_delete(self):
        self.assert_unnoticed("api_new")

    def test_jemallocs_own_family(self):
        _, printed = self.assert_unnoticed("api_jemalloc", compare_errors=False)
        self.assertIn("jemalloc statistics", printed)
        _, _, hooked = self.run_victim("api_jemalloc", preload=LIBRARY)
        self.assertIn("jemalloc statistics", hooked)

    def test_a_program_with_its_own_malloc_keeps_it(self):
        out, _ = self.assert_unnoticed("api_own_malloc")
        self.assertIn("program's malloc was used: 1", out)

    def test_a_program_that_wraps_malloc(self):
        out, _ = self.assert_unnoticed("api_wrapped_malloc")
        self.assertIn("program's malloc was used: 1", out)

    def test_settings_meant_for_the_hosts_jemalloc_do_not_reach_ours(self):
        os.environ["MALLOC_CONF"] = "stats_print:true,abort_conf:true,nonsense:1"
        self.addCleanup(os.environ.pop, "MALLOC_CONF")
        self.assert_unnoticed("api_edges")


class Process(Hooked):
    def test_ends(self):
        for how in ("return", "exit", "_exit", "_Exit", "quick_exit", "fail"):
            self.assert_unnoticed("api_process", how)

    def test_becoming_another_program(self):
        for how in ("execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "fexecve", "execveat"):
            for way in (how, "vfork-" + how):
                out, _ = self.assert_unnoticed("api_process", way)
                self.assertIn("zero one", out)

    def test_namespaces_and_thread_count(self):
        self.assert_unnoticed("api_namespaces")

    def test_dlopen(self):
        out, _ = self.assert_unnoticed("api_loader", os.path.join(VICTIMS, "loader", "libapi_finder.so"))
        self.assertIn("by a library with RUNPATH: found", out)
        self.assertIn("by the program: not found", out)


if __name__ == "__main__":
    unittest.main()
