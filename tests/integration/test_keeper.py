"""The memory manager: samples, purges, warnings. The victim grows when it is told to, and tests wait for what they expect to see in the region,
so that a slow machine only makes them slower."""
import datetime
import glob
import json
import os
import re
import subprocess
import time

import support

MIB = 1 << 20
FAST = {"sample_interval": "100ms", "baseline_after": "300ms"}


class Grower:
    """tests/victims/growth.cpp under tidemark."""

    def __init__(self, test, folder=None, before=(), **options):
        self.folder = folder or test.new_folder()
        command = support.tidemark_run([*before, support.victim("growth")], self.folder, **options)
        self.process = subprocess.Popen(command, env=support.clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        test.addCleanup(self.kill)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        assert line == b"ok\n", line + self.process.stderr.read()

    def tell(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        self.answer()

    def path(self):
        end = time.monotonic() + support.PATIENCE
        while not (found := glob.glob(os.path.join(self.folder, "growth.*.tide"))):   # behind another program: once its grace is over
            assert time.monotonic() < end and self.process.poll() is None, "no region"
            time.sleep(0.02)
        return found[0]

    def report(self):
        return support.read_report(self.path(), top=1)

    def wait_for(self, condition, what):
        """The first report for which the condition holds."""
        end = time.monotonic() + support.PATIENCE / 2
        while time.monotonic() < end:
            report = self.report()
            if condition(report.raw):
                return report
            time.sleep(0.05)
        raise AssertionError(f"never: {what}; the last report: {str(report.raw)[:3000]}")

    def wait_for_baseline(self):
        return self.wait_for(lambda raw: raw["baseline"], "a baseline")

    def wait_for_samples(self, count):
        """So many more than there are now."""
        def samples(raw):
            return sum(point["samples"] for point in raw["series"])
        wanted = samples(self.report().raw) + count
        return self.wait_for(lambda raw: samples(raw) >= wanted, f"{count} samples")

    def quit(self):
        out, err = self.process.communicate(b"quit\n", timeout=support.PATIENCE)
        assert (self.process.returncode, out, err) == (0, b"", b""), (self.process.returncode, out, err)
        return self.report()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def warnings(report, kind):
    return [w for w in report.raw["warnings"] if w["kind"] == kind]


class Warnings(support.TestCase):
    def grown_by(self, mebibytes):
        grower = Grower(self, **FAST)
        grower.wait_for_baseline()
        grower.tell(f"leak {mebibytes * MIB}")
        grower.wait_for_samples(3)
        return grower.quit()

    def test_a_leak_of_12_mb_warns_once(self):
        report = self.grown_by(12)
        found = warnings(report, "rss_increase")
        self.assertEqual(1, len(found), report.raw["warnings"])
        self.assertRegex(found[0]["text"], r"grown by 1[0-2]\.")   # a sample may come in the midst of it

    def test_a_leak_of_8_mb_does_not_warn(self):
        self.assertEqual([], self.grown_by(8).raw["warnings"])

    def test_each_doubling_warns(self):
        grower = Grower(self, **FAST)
        grower.wait_for_baseline()
        before = 0
        for total, count in ((12, 1), (15, 1), (24, 2), (45, 3)):   # no step passes two thresholds
            grower.tell(f"leak {(total - before) * MIB}")
            before = total
            report = grower.wait_for_samples(3)
            self.assertEqual(count, len(warnings(report, "rss_increase")), total)
        grower.quit()

    def test_old_blocks(self):
        grower = Grower(self, **FAST, cache_duration="1s", warn_expired="4M", warn_increase="0")
        grower.tell(f"leak {5 * MIB}")
        report = grower.wait_for(lambda raw: raw["warnings"], "a warning")
        self.assertEqual(["expired_blocks"], [w["kind"] for w in report.raw["warnings"]])
        self.assertIn("more than 1 s hold 5.", report.raw["warnings"][0]["text"])
        grower.quit()

    def logged_warning(self, **grower):
        log = os.path.join(self.folder, "warnings.log")
        grower = Grower(self, **FAST, log=log, **grower)
        grower.wait_for_baseline()
        grower.tell(f"leak {12 * MIB}")
        grower.wait_for(lambda raw: raw["warnings"], "a warning")
        grower.wait_for_samples(2)
        self.assertEqual({}, grower.quit().losses())
        with open(log) as file:
            return file.read()

    def test_the_log(self):
        self.assertRegex(self.logged_warning(), r"^\S+ tidemark\[\d+\] growth warning: RSS has grown by 1[0-2]\.\d MiB .*\n$")

    def test_the_log_waits_for_no_lock_of_the_time_zones(self):
        """Its times are UTC, and none of libc's functions is asked for them: a fork may have copied their lock while it was held."""
        locked = os.path.join(os.path.dirname(support.victim("growth")), "liblocked_time.so")
        text = self.logged_warning(before=["/usr/bin/env", "TZ=Asia/Tokyo", f"LD_PRELOAD={support.LIBRARY}:{locked}"])
        when = text.split()[0]
        self.assertTrue(when.endswith("Z"), when)
        written = datetime.datetime.fromisoformat(when.removesuffix("Z")).replace(tzinfo=datetime.timezone.utc)
        self.assertLess(abs(datetime.datetime.now(datetime.timezone.utc) - written), datetime.timedelta(hours=1))

    def test_the_log_library_is_there_from_the_start(self):
        """Later a constructor of the program may hold the loader's lock, and wait for the keeper."""
        run = self.preloaded(["/bin/cat", "/proc/self/maps"], {"log": os.path.join(self.folder, "warnings.log")})
        self.assertIn(b"libtidemark-log.so", run.out)

    # With a /dev of its own, where the daemon's socket is this script's. The program has a name of its own in the log.
    SYSLOG = '''
import glob, json, os, socket, subprocess, sys, time
tidemark, old, folder, victim = sys.argv[1:]
def run(*command):
    subprocess.run(command, check=True)
run("mount", "--bind", "/dev", old)
run("mount", "-t", "tmpfs", "tmpfs", "/dev")
for name in ("null", "zero", "urandom"):
    open("/dev/" + name, "w").close()
    run("mount", "--bind", old + "/" + name, "/dev/" + name)
daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
daemon.bind("/dev/log")
daemon.settimeout(60)
program = subprocess.Popen([tidemark, "run", "-o", folder, "--log=syslog", "--sample_interval=100ms", "--baseline_after=300ms", "--", victim],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def tell(command):
    program.stdin.write(command)
    program.stdin.flush()
    assert program.stdout.readline() == b"ok\\n"
def report():
    return json.loads(subprocess.run([tidemark, "report", "--json", glob.glob(folder + "/*.tide")[0]], stdout=subprocess.PIPE, check=True).stdout)
tell(b"syslog 1\\n")
print(daemon.recv(4096).decode())
while not report()["baseline"]:
    time.sleep(0.05)
tell(b"leak 12000000\\n")
print(daemon.recv(4096).decode())
tell(b"syslog 2\\n")
print(daemon.recv(4096).decode())
program.communicate(b"quit\\n")
print(program.returncode, report()["coverage"]["log_failures"])
'''

    def test_syslog(self):
        if support.plain(["unshare", "-m", "true"]).status != 0:
            self.skipTest("no mount namespaces here")
        done = support.execute(["unshare", "-m", "--propagation", "private", "/usr/bin/python3", "-c", self.SYSLOG, support.TIDEMARK, self.new_folder(),
                                self.new_folder(), support.victim("growth")], env=support.clean_environment())
        self.assertEqual((0, b""), (done.status, done.err))
        first, warning, second, end = done.out.decode().splitlines()
        self.assertRegex(first, r"^<14>.* the-program: message 1$")
        self.assertRegex(warning, r"^<28>tidemark\[\d+\]: growth warning: RSS has grown by 1[0-2]\.\d MiB ")
        self.assertRegex(second, r"^<14>.* the-program: message 2$")   # its name and its connection are as they were
        self.assertEqual("0 0", end)

    def test_a_log_that_cannot_be_written(self):
        grower = Grower(self, **FAST, log="/proc/no/such/folder/log")
        grower.wait_for_baseline()
        grower.tell(f"leak {12 * MIB}")
        grower.wait_for(lambda raw: raw["coverage"]["log_failures"], "the failure")
        grower.quit()


class Children(support.TestCase):
    FORK = """
import os, time
time.sleep(1)
if (pid := os.fork()) == 0:
    time.sleep(1.2)
    os._exit(0)
os.waitpid(pid, 0)
"""

    def test_a_child_of_fork_has_a_baseline_of_its_own(self):
        run = self.tracked(["/usr/bin/python3", "-c", self.FORK], {"sample_interval": "100ms", "baseline_after": "600ms"})
        child = next(report for report in run.reports() if report.process["origin"] == "forked")
        parent = next(report for report in run.reports() if report.process["origin"] == "launched")
        self.assertGreaterEqual(parent.raw["baseline"]["at_s"], 0.6)
        self.assertGreaterEqual(child.raw["baseline"]["at_s"], 0.6, "since its own start")


class Samples(support.TestCase):
    def test_rss_is_that_of_ps(self):
        grower = Grower(self, **FAST)
        grower.tell(f"leak {50 * MIB}")
        grower.wait_for_samples(3)
        with open(f"/proc/{grower.report().pid}/statm") as file:
            rss = int(file.read().split()[1]) * 4096
        last = grower.wait_for_samples(2).raw["series"][-1]
        self.assertLess(abs(last["rss"] - rss), 0.02 * rss)
        self.assertGreater(last["live"], 50 * MIB)
        self.assertLess(last["live"], 51 * MIB)
        self.assertGreaterEqual(last["active"], last["allocated"])
        self.assertEqual(1, last["threads"], "the program's own")
        self.assertGreaterEqual(last["fds"], 3)
        self.assertGreater(last["minor_faults"], 50 * MIB / 4096)
        grower.quit()

    def test_no_descriptor_of_ours_is_ever_seen(self):
        grower = Grower(self, sample_interval="100ms", cleanup_interval="200ms")
        pid = grower.report().pid
        seen = set()
        for _ in range(200):
            seen.add(tuple(sorted(os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd"))))
            time.sleep(0.002)
        self.assertEqual(1, len(seen), seen)
        grower.quit()


class Threads(support.TestCase):
    """The keeper beside the program's threads."""

    @staticmethod
    def keepers(pid):
        """What the descriptors of each of its threads lead to."""
        found = []
        for task in glob.glob(f"/proc/{pid}/task/*"):
            try:
                with open(f"{task}/comm") as file:
                    if file.read() == "tidemark\n":
                        found.append({os.readlink(fd) for fd in glob.glob(f"{task}/fd/*")})
            except OSError:   # it ended
                continue
        return found

    def test_a_descriptor_table_of_its_own(self):
        """Else each of the program's system calls would pay for two threads that share one."""
        grower = Grower(self, sample_interval="3600s")
        pid = grower.report().pid
        pipe = os.readlink(f"/proc/{pid}/fd/0")
        self.assertTrue(support.wait_until(lambda: self.keepers(pid) and not any(pipe in open_there for open_there in self.keepers(pid)), 20))
        grower.quit()

    def test_threads_that_never_allocated_are_not_left_without_it(self):
        """The last known thread stops it, and makes another one, which keeps the program's descriptors until a thread is known again."""
        folder = self.new_folder()
        process = subprocess.Popen([support.victim("endings"), "asked_last_thread"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}"}))
        self.addCleanup(process.kill)
        pipe = os.readlink(f"/proc/{process.pid}/fd/0")

        def main_is_gone():
            with open(f"/proc/{process.pid}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "Z"

        def shared():
            return [pipe in open_there for open_there in self.keepers(process.pid)]

        self.assertTrue(support.wait_until(main_is_gone, 20))
        self.assertTrue(support.wait_until(lambda: any(shared()), 20))
        process.stdin.write(b"x")
        process.stdin.flush()
        self.assertTrue(support.wait_until(lambda: shared() and not any(shared()), 20))
        out, _ = process.communicate()
        self.assertEqual((0, b"to stdout before asked_last_thread\n"), (process.returncode, out), "exit handlers ran, with the program's descriptors")
        (path,) = glob.glob(os.path.join(folder, "*.tide"))
        report = support.read_report(path)
        self.assertEqual("exited", report.process["ending"])
        self.assertEqual(11, report.site("site_at_the_end").live_count)


class Purges(support.TestCase):
    def test_ten_seconds(self):
        run = self.tracked(["sleep", "10"], {"cleanup_interval": "1"})
        report = run.report()
        self.assertIn(len(report.raw["purges"]), (9, 10, 11))
        self.assertEqual({"interval"}, {p["reason"] for p in report.raw["purges"]})

    def test_what_came_back_and_what_did_not(self):
        grower = Grower(self, sample_interval="100ms", cleanup_interval="500ms", dirty_decay_ms="3600000")
        def wait_for_purges():
            made = grower.report().raw["purge_totals"]["count"]
            return grower.wait_for(lambda raw: raw["purge_totals"]["count"] >= made + 2, "two purges")

        grower.tell(f"leak {100 * MIB}")
        grower.tell("drop")
        self.assertGreater(wait_for_purges().raw["purge_totals"]["bytes_returned"], 90 * MIB, "what was dropped")
        grower.tell(f"scatter {100 * MIB}")
        after = wait_for_purges().raw["purges"][-1]["after"]
        self.assertGreater(after["active"] - after["allocated"], 90 * MIB, "half of each page is free")
        self.assertLess(after["dirty"], MIB)
        grower.quit()
        text = support.execute([support.TIDEMARK, "report", grower.path()], env=support.clean_environment()).out.decode()
        self.assertRegex(text, r"purges +\d+, [\d.]+ MiB returned in all")
        self.assertRegex(text, r"fragmentation held (9\d|1\d\d)\.\d MiB")

    def test_without_one_free_pages_go_when_their_time_has_come(self):
        for interval in ("100ms", "1h"):   # also between samples
            grower = Grower(self, sample_interval=interval, cleanup_interval="0", dirty_decay_ms="500")
            pid = grower.report().pid

            def rss():
                with open(f"/proc/{pid}/statm") as file:
                    return int(file.read().split()[1]) * 4096
            grower.tell(f"leak {50 * MIB}")
            self.assertGreater(rss(), 50 * MIB)
            grower.tell("drop")   # from now on it waits for commands: no thread of its own allocates or frees
            end = time.monotonic() + support.PATIENCE
            while rss() > 30 * MIB and time.monotonic() < end:
                time.sleep(0.05)
            self.assertLess(rss(), 30 * MIB, interval)
            grower.quit()

    def test_never(self):
        grower = Grower(self, sample_interval="100ms", cleanup_interval="0")
        grower.wait_for_samples(5)
        self.assertEqual([], grower.quit().raw["purges"])


class Disabled(support.TestCase):
    def test_nothing_is_left_behind(self):
        without = support.plain(["sh", "-c", "ls /proc/$$/task | wc -l; echo done"])
        under = self.preloaded(["sh", "-c", "ls /proc/$$/task | wc -l; echo done"], {"enable": "0"})
        self.assert_same_behaviour(without, under)
        self.assertEqual([], os.listdir(under.folder))


class Inside(support.TestCase):
    """What a program tells and asks by preload/tidemark.h."""

    def test_without_the_shim_nothing_happens(self):
        run = support.plain([support.victim("marks"), "100", "1000"])
        self.assertEqual((0, b"done\n", b""), (run.status, run.out, run.err))

    def test_bytes_kept_per_call(self):
        run = self.tracked([support.victim("marks"), "10000", "1000"])
        self.assertEqual((0, b"done\n"), (run.status, run.out))
        live = int(run.err.split()[1])
        self.assertGreaterEqual(live, 10000 * 1000)
        self.assertLess(live, 10000 * 1000 + MIB)
        self.assertIn(b"purges 1\n", run.err)
        report = run.report()
        self.assertEqual({}, report.losses())
        marks = {mark["name"]: mark for mark in report.raw["marks"]}
        self.assertEqual({"call started": 10000, "every other call": 5000}, {name: mark["count"] for name, mark in marks.items()})
        self.assertAlmostEqual(1000, marks["call started"]["bytes_per_mark"], delta=1)
        self.assertAlmostEqual(2000, marks["every other call"]["bytes_per_mark"], delta=1)
        points = marks["call started"]["points"]
        self.assertGreaterEqual(len(points), 28)
        self.assertEqual(sorted(p["number"] for p in points), [p["number"] for p in points])
        self.assertEqual(["inside"], [p["reason"] for p in report.raw["purges"]])

    def test_children(self):
        for how in ("fork", "_Fork"):
            with self.subTest(how=how):
                run = self.tracked([support.victim("marks"), "10", "0", how])
                self.assertEqual((0, b"child: 0\ndone\n"), (run.status, run.out))
                (child,) = [report for report in run.reports() if report.process["origin"] == "forked"]
                self.assertEqual({"call started": 7, "in the child": 1}, {mark["name"]: mark["count"] for mark in child.raw["marks"]})

    def test_a_childs_first_marks(self):
        """Before it has allocated, and in its grace."""
        for how in ("fork", "_Fork"):
            with self.subTest(how=how):
                run = self.tracked([support.victim("marks"), "10", "0", how, "first"])
                self.assertEqual((0, b"child: 0\ndone\n"), (run.status, run.out))
                (child,) = [report for report in run.reports() if report.process["origin"] == "forked"]
                self.assertEqual({"first of all": 1, "in its grace": 1, "call started": 7, "in the child": 1},
                                 {mark["name"]: mark["count"] for mark in child.raw["marks"]})
                self.assertEqual(0, child.coverage["marks_lost"])

    def test_marks_of_a_program_in_its_grace(self):
        run = self.tracked(["sh", "-c", f"{support.victim('marks')} 200 1000; true"], {"child_grace": "1h", "child_grace_allocations": "120"})
        (report,) = [report for report in run.reports() if report.process["name"] == "marks" and report.process["origin"] == "execed"]
        self.assertEqual({"call started": 200, "every other call": 100}, {mark["name"]: mark["count"] for mark in report.raw["marks"]})

    def test_a_mark_of_a_vfork_child_is_lost_and_counted(self):
        report = self.tracked([support.victim("marks"), "10", "0", "vfork"]).report()
        self.assertEqual(10, next(mark["count"] for mark in report.raw["marks"] if mark["name"] == "call started"))
        self.assertEqual(1, report.coverage["marks_lost"])

    def test_handlers_that_jump_out_of_a_mark(self):
        """No lock stays held for good: the last mark would wait for ever."""
        run = self.tracked([support.victim("mark_longjmp")], timeout=60)
        self.assertEqual((0, b""), (run.status, run.err))
        self.assertEqual(1, {mark["name"]: mark["count"] for mark in run.report().raw["marks"]}["last"])

    def test_nothing_kept(self):
        report = self.tracked([support.victim("marks"), "1000", "0"]).report()
        self.assertAlmostEqual(0, report.raw["marks"][0]["bytes_per_mark"], delta=1)


class Caches(support.TestCase):
    RULES = """# what the victim keeps
cache leaked   match=leak ttl=1
cache scattered match=*no_such* match=scat*er
cache nothing  match=*never_called*
"""

    def rules(self, text):
        path = os.path.join(self.folder, "rules")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_named_caches(self):
        grower = Grower(self, **FAST, rules=self.rules(self.RULES), cache_duration="2s")
        pid = grower.report().pid
        grower.tell(f"leak {4 * MIB}")
        grower.tell(f"scatter {2 * MIB}")

        def caches(raw):
            return {cache["name"]: cache for cache in raw["caches"]}
        report = grower.wait_for(lambda raw: caches(raw).get("scattered", {}).get("expired_entries", 0) >= 4096, "expired entries")
        found = caches(report.raw)
        self.assertEqual(["leaked", "scattered", "nothing"], list(found))
        self.assertEqual(4097, found["scattered"]["expired_entries"], "blocks, and the array that holds them")
        self.assertEqual(4096 * 512 + 65536, found["scattered"]["expired_bytes"])
        self.assertEqual((1, 2), (found["leaked"]["ttl_s"], found["scattered"]["ttl_s"]))
        self.assertGreaterEqual(found["leaked"]["expired_entries"], 1024)
        self.assertEqual((0, 0), (found["nothing"]["entries"], found["nothing"]["stacks"]))
        done = support.execute([support.TIDEMARK, "cleanup", str(pid), "--json"], env=support.clean_environment())
        sizes = json.loads(done.out)["caches"]["scattered"]
        self.assertEqual((sizes["before_size"], 0), (sizes["after_size"], sizes["cleaned"]))
        self.assertGreaterEqual(sizes["before_size"], 2 * MIB)
        grower.quit()
        text = support.execute([support.TIDEMARK, "report", grower.path()], env=support.clean_environment()).out.decode()
        self.assertRegex(text, r"scattered: 2\.\d MiB in [\d,]+ entries, of which 2\.\d MiB in 4,09[67] entries older than 2\.0 s")
        self.assertIn("nothing: 0 bytes in 0 entries: no call stack matches", text)

    def test_a_rule_that_is_wrong(self):
        grower = Grower(self, rules=self.rules("cache a match=leak\ncache b ttl=soon\nnonsense\n"))
        report = grower.wait_for(lambda raw: raw["caches"], "the rules")
        self.assertEqual(["a"], [cache["name"] for cache in report.raw["caches"]])
        self.assertEqual(['line 2: ttl takes seconds, not "soon"', "line 3: a line begins with `cache`"], report.raw["rules_errors"])
        grower.quit()

    def test_rules_that_cannot_be_read(self):
        grower = Grower(self, rules="/no/such/file")
        grower.wait_for(lambda raw: raw["coverage"]["rules_unread"] == 1, "the loss")
        grower.quit()


class Ledger(support.TestCase):
    def ledger_of(self, pid, explained=True):
        done = support.execute([support.TIDEMARK, "stats", str(pid), "--json"], env=support.clean_environment())
        self.assertEqual((0, b""), (done.status, done.err))
        ledger = json.loads(done.out)["ledger"]
        if explained:
            self.assert_explained(ledger)
        return ledger

    def test_each_part(self):
        grower = Grower(self, **FAST)
        pid = grower.report().pid

        def grown(command, part, least, most):
            before = self.ledger_of(pid)
            grower.tell(command)
            after = self.ledger_of(pid)
            self.assertGreaterEqual(after[part] - before[part], least * MIB, (command, part, before, after))
            self.assertLess(after[part] - before[part], most * MIB, (command, part, before, after))
            return before, after
        grown(f"leak {20 * MIB}", "live", 19.9, 21)
        grown(f"untouched {30 * MIB}", "live_untouched", 29.9, 31)
        grown(f"rounded {26 * MIB}", "rounding", 1.9, 2.1)   # 13 KiB take 14
        grown(f"map {25 * MIB}", "mappings", 24.9, 26)
        grown(f"stack {4 * MIB}", "thread_stacks", 3.9, 5)
        before, after = grown(f"scatter {16 * MIB}", "allocator", 14, 19)
        self.assertGreater(after["live"] - before["live"], 15 * MIB)
        report = grower.quit()
        measured = [point for point in report.raw["series"] if point["ledger_live"] is not None]
        self.assertGreater(len(measured), 0)
        self.assertGreater(measured[0]["ledger_tidemark"], 0)
        for point in measured:   # it comes with the ledger
            self.assertGreaterEqual(point["pss"], point["ledger_live"] + point["ledger_allocator"])
            self.assertLessEqual(point["pss"], point.get("rss_max", point["rss"]))
        text = support.execute([support.TIDEMARK, "report", grower.path()], env=support.clean_environment()).out.decode()
        self.assertRegex(text, r"(?s)of RSS \d.*live blocks.*mappings \(code, files, mmap\).*(not explained|more than the whole)")

    def test_what_nobody_noted_is_not_explained(self):
        grower = Grower(self, **FAST)
        pid = grower.report().pid
        before = self.ledger_of(pid)
        grower.tell(f"rawmap {20 * MIB}")
        after = self.ledger_of(pid, explained=False)
        self.assertAlmostEqual(20 * MIB, after["residual"] - before["residual"], delta=MIB)
        self.assertAlmostEqual(before["mappings"], after["mappings"], delta=MIB)

    def growth_after(self, *commands, explained=True, **options):
        grower = Grower(self, **FAST, **options)
        grower.wait_for_baseline()
        for command in commands:
            grower.tell(command)
        self.ledger_of(grower.report().pid, explained)
        text = support.execute([support.TIDEMARK, "report", grower.path()], env=support.clean_environment()).out.decode()
        return re.search(r"growth +(.*?since the baseline.*?)\n  of RSS", text, re.DOTALL)[1]

    def test_growth_into_live_blocks(self):
        self.assertRegex(self.growth_after(f"leak {40 * MIB}"), r"since the baseline[^:]*: 4\d\.\d MiB into live blocks: the call stacks below\b")

    def test_growth_into_fragmentation(self):
        growth = self.growth_after(f"scatter {40 * MIB}")
        self.assertRegex(growth, r"\b[34]\d\.\d MiB into live blocks")
        self.assertRegex(growth, r"\b[34]\d\.\d MiB into fragmentation: partly used pages, which no purge gives back")

    def test_growth_into_what_is_not_explained(self):
        growth = self.growth_after(f"rawmap {40 * MIB}", explained=False)
        self.assertRegex(growth, r"since the baseline[^:]*: 40\.\d MiB into what is not explained: ")

    def test_growth_into_free_pages(self):
        growth = self.growth_after(f"leak {40 * MIB}", "drop", dirty_decay_ms="4000000")
        self.assertRegex(growth, r"since the baseline[^:]*: [34]\d\.\d MiB into the allocator's free pages, which the next purge gives back")


class Mappings(support.TestCase):
    @staticmethod
    def function(site):
        return support.bare(site["frames"][0]["function"].removeprefix("(anonymous namespace)::"))

    def test_each_call_stack(self):
        grower = Grower(self, **FAST)
        grower.wait_for_baseline()
        pid = str(grower.report().pid)

        def sites(*functions):
            support.execute([support.TIDEMARK, "stats", pid, "--json"], env=support.clean_environment())   # measures
            raw = support.read_report(grower.path()).raw
            return [site for function in functions for site in raw["mapping_sites"] if self.function(site) == function]
        grower.tell(f"map {25 * MIB}")
        site, = sites("map")
        self.assertEqual((1, 25 * MIB, 25 * MIB, 0), (site["calls"], site["live_bytes"], site["resident_bytes"], site["baseline_resident_bytes"]))
        grower.tell(f"unmap {5 * MIB}")
        site, = sites("map")
        self.assertEqual((20 * MIB, 20 * MIB, 25 * MIB), (site["live_bytes"], site["resident_bytes"], site["peak_bytes"]))
        grower.tell(f"remap {30 * MIB}")
        old, new = sites("map", "remap")
        self.assertEqual((0, 0, 30 * MIB, 30 * MIB), (old["live_bytes"], old["resident_bytes"], new["live_bytes"], new["resident_bytes"]))
        grower.tell(f"break {3 * MIB}")
        site, = sites("raise_break")
        self.assertEqual((3 * MIB, 3 * MIB), (site["live_bytes"], site["resident_bytes"]))

        text = support.execute([support.TIDEMARK, "report", grower.path()], env=support.clean_environment()).out.decode()
        self.assertRegex(text, r"growth .*3\d.\d MiB into mappings, 33.0 MiB of it by the program's own calls of mmap \(see Mappings\)")
        self.assertIn("of the mappings, 33.0 MiB were made by the program's own calls", text)
        self.assertRegex(text, r"M1  30.0 MiB resident, 30.0 MiB mapped; 30.0 MiB more than at the baseline\n.*\n +.*remap\(")
        self.assertRegex(text, r"M2  3.0 MiB resident, 3.0 MiB mapped")
        report = grower.quit()
        self.assertEqual({}, report.losses())
        self.assertEqual([], [f for site in report.raw["mapping_sites"] for f in site["frames"] if "libtidemark" in (f["module"] or "")])

    def test_threads_that_map_and_unmap(self):
        run = self.tracked([support.victim("mappings")])
        said = json.loads(run.out)
        self.assertLess(said["failures"], 1_000_000)
        report = run.report()
        own = [site for site in report.raw["mapping_sites"] if any(support.bare(f["function"]) == "work" for f in site["frames"])]
        self.assertEqual({"calls": said["calls"], "mapped": said["mapped"], "live": said["live"]},
                         {"calls": sum(s["calls"] for s in own), "mapped": sum(s["mapped_bytes"] for s in own), "live": sum(s["live_bytes"] for s in own)})
        self.assertEqual({"map", "map_over", "grow"}, {support.bare(support.real_frames(s)[0]["function"]) for s in own})
        self.assertEqual({}, report.losses())


    def test_a_handler_that_maps(self):
        run = self.tracked([support.victim("mapping_in_handler")])
        signals, own, kept = map(int, run.out.split())
        report = run.report()
        mine = [site for site in report.raw["mapping_sites"] if any(support.bare(f["function"]) == "main" for f in site["frames"])]
        losses = report.losses()
        inside = losses.pop("mappings_forgotten", 0)   # the handler maps once, and unmaps once
        self.assertEqual(inside, losses.pop("unmappings_missed", 0))
        self.assertEqual(signals + own, sum(site["calls"] for site in mine) + inside)
        self.assertEqual(kept * 4096, sum(site["live_bytes"] for site in mine))
        self.assertEqual({}, losses)

    def test_a_handler_that_jumps_out(self):
        run = self.tracked([support.victim("mapping_longjmp")])
        self.assertEqual((0, b"2000\n", b""), (run.status, run.out, run.err))
        self.assertGreater(sum(site["calls"] for site in run.report().raw["mapping_sites"]), 0)

    FORK = """
import mmap, os, time
kept = mmap.mmap(-1, 4 << 20)
if os.fork() == 0:
    kept.close()
    own = mmap.mmap(-1, 8 << 20)
    time.sleep(1)   # more than its grace
    os._exit(0)
os.wait()
os._exit(0)
"""

    def test_a_child_of_fork_has_mappings_of_its_own(self):
        run = self.tracked(["/usr/bin/python3", "-c", self.FORK])
        self.assertEqual((0, b""), (run.status, run.err))
        def live(report):
            return [site["live_bytes"] for site in report.raw["mapping_sites"] if site["live_bytes"] >= 4 * MIB]
        self.assertEqual({"launched": [4 * MIB], "forked": [8 * MIB]}, {r.process["origin"]: live(r) for r in run.reports()})


class AllocatorOptions(support.TestCase):
    ASK = """
import ctypes, time
libc = ctypes.CDLL(None)
def ask(name, kind):
    value, size = kind(), ctypes.c_size_t(ctypes.sizeof(kind))
    assert libc.mallctl(name, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0
    return value.value
def all():
    return [ask(b"opt.narenas", ctypes.c_uint), ask(b"arena.0.dirty_decay_ms", ctypes.c_ssize_t), ask(b"arena.0.muzzy_decay_ms", ctypes.c_ssize_t),
            ask(b"arenas.dirty_decay_ms", ctypes.c_ssize_t), int(ask(b"background_thread", ctypes.c_bool))]
for _ in range(1000):   # the keeper sets them at its first tick
    if all()[1:] == WANTED[1:]:
        break
    time.sleep(0.01)
print(*all())
"""

    def test_they_reach_jemalloc(self):
        options = {"arenas": "3", "dirty_decay_ms": "777", "muzzy_decay_ms": "5", "background_thread": "1"}
        run = self.preloaded(["/usr/bin/python3", "-c", "WANTED = [3, 777, 5, 777, 1]" + self.ASK], options)
        self.assertEqual((0, b"3 777 5 777 1\n", b""), (run.status, run.out, run.err))
