"""Files that are no region, or no whole one: exit status 2 and one line on standard error, never a crash."""
import json
import os
import random
import resource

import support


class Files(support.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = support.TestCase()
        case.setUp()
        cls.addClassCleanup(case.doCleanups)
        run = case.tracked([support.victim("many_threads")])
        with open(run.files()[0], "rb") as file:
            cls.region = file.read()

    def report(self, content, *arguments):
        path = os.path.join(self.folder, "some.tide")
        with open(path, "wb") as file:
            file.write(content)
        return support.execute([support.TIDEMARK, "report", *arguments, path], env=support.clean_environment())

    def assert_refused(self, done, what):
        self.assertEqual(2, done.status, what)
        self.assertEqual(b"", done.out, what)
        self.assertEqual(1, len(done.err.splitlines()), (what, done.err))
        self.assertTrue(done.err.endswith(b"\n"))

    def test_where_few_descriptors_may_be_had(self):
        """Who the process was is known all the same: of one that has gone it is not said that it still runs."""
        run = self.preloaded([support.victim("single_thread")], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4)))
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual("exited", run.report().process["ending"])

    def test_whole_region_is_read(self):
        for arguments in ([], ["--json"]):
            done = self.report(self.region, *arguments)
            self.assertEqual((0, b""), (done.status, done.err))

    def test_foreign_files(self):
        with open("/bin/sh", "rb") as file:
            shell = file.read()
        for what, content in (("empty", b""), ("one byte", b"T"), ("text", b"hello\n" * 1000), ("program", shell),
                              ("zeros", bytes(1 << 20)), ("magic alone", self.region[:8])):
            for arguments in ([], ["--json"]):
                self.assert_refused(self.report(content, *arguments), what)

    def test_the_file_goes_while_it_is_written(self):
        """Who removes it, or cuts it, is told; and not that the library did not get into the program."""
        for change in ('rm "$REGION_DIR"/*.tide', 'for f in "$REGION_DIR"/*.tide; do printf x >x; mv x "$f"; done'):
            run = self.tracked(["sh", "-c", f"{change}; exit 3"], cwd=self.new_folder())
            self.assertEqual(3, run.status)
            self.assertIn(b"the file was removed, cut or written over while it ran", run.err)

    def test_missing_file_and_folder(self):
        for path in ("/does/not/exist.tide", "/proc/self/mem", self.folder):
            done = support.execute([support.TIDEMARK, "report", path], env=support.clean_environment())
            self.assert_refused(done, path)

    def test_other_version(self):
        other = bytearray(self.region)
        other[8] += 1
        done = self.report(bytes(other))
        self.assert_refused(done, "version")
        self.assertIn(b"version", done.err)

    def test_truncated(self):
        """Cut inside its used pages: refused, or read as far as it goes and called cut off; never a crash, never a hang."""
        used = support.used_pages(os.path.join(self.folder, "some.tide")) if self.report(self.region).status == 0 else 0
        for length in {1, 100, 4095, 4096, 4097, 8192, 100_000, len(self.region) // 2, len(self.region) - 1}:
            done = self.report(self.region[:length])
            whole = length >= used * 4096
            self.assertEqual((0, b"") if whole else (2, 1), (done.status, b"" if whole else done.err.count(b"\n")), length)
            self.assertEqual(whole, b"truncated" not in done.err, done.err)
            if not done.out:
                self.assert_refused(done, length)
            self.assertEqual(bool(done.out) and not whole, b"copy the whole file again" in done.out, length)

    def test_random_damage(self):
        chance = random.Random(3)
        for number in range(60):
            damaged = bytearray(self.region)
            for _ in range(chance.choice((1, 10, 1000))):
                damaged[chance.randrange(chance.choice((256, 4096, len(damaged))))] = chance.randrange(256)
            done = self.report(bytes(damaged), "--json", "--top", "0")
            self.assertIn(done.status, (0, 2), f"damage {number}: {done.err[-500:]}")
            if done.out and done.status == 2:
                self.assertIn(b"truncated", done.err, "it uses more pages, as it says")
            elif done.status == 2:
                self.assert_refused(done, number)

    def test_several_files(self):
        folder = self.new_folder()
        for name in ("a.tide", "b.tide"):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(self.region)
        done = support.execute([support.TIDEMARK, "report", "--json", folder], env=support.clean_environment())
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(2, len(json.loads(done.out)["reports"]))
