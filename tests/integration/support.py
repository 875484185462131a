"""Runs programs plain and under tidemark, collects their regions, and compares reports with what the programs say they did."""
import glob
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

TIDEMARK = os.environ.get("TIDEMARK_BIN", "")
LIBRARY = os.environ.get("TIDEMARK_LIB", "")
VICTIMS = os.environ.get("VICTIMS_DIR", "")
PATIENCE = 120  # seconds after which a program surely hangs

# Figures of `coverage` that are no loss, whatever their size.
FACTS = {"checks", "deepbind_stripped", "last_walk_tick", "stacks", "nodes", "details", "cache_misses",
         "peak_error_bytes"}   # of several threads: what the peak may miss is said, and is no error


def victim(name):
    return os.path.join(VICTIMS, name)


class Outcome:
    """How a command ended: status as subprocess gives it (negative: signal), and its output."""

    def __init__(self, status, out, err, pid):
        self.status, self.out, self.err, self.pid = status, out, err, pid


def execute(command, *, env=None, cwd=None, stdin=b"", timeout=PATIENCE, **popen):
    """Runs to the end; kills it (it alone) and fails when it hangs. Output goes to files: a left-over child that still
    holds a pipe must not make us wait for it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        streams = {"stdin": source, "stdout": out, "stderr": err, **popen}
        process = subprocess.Popen(command, env=env, cwd=cwd, **streams)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            where = stack_of(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise AssertionError(f"hangs: {command}\n{where}") from None
        out.seek(0)
        err.seek(0)
        return Outcome(status, out.read(), err.read(), process.pid)


def stack_of(pid):
    """What a hanging process and its children wait on, for the failure's text."""
    lines = []
    for task in sorted(glob.glob(f"/proc/{pid}/task/*")):
        try:
            with open(task + "/wchan") as wchan, open(task + "/comm") as comm, open(task + "/syscall") as call:
                lines.append(f"{task} {comm.read().strip()} {wchan.read()} {call.read().strip()}")
        except OSError:
            pass
        try:
            with open(task + "/children") as children:
                for child in children.read().split():
                    lines.append(stack_of(int(child)))
        except OSError:
            pass
    return "\n".join(lines)


def clean_environment(extra=None):
    env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "TIDEMARK_OPTIONS", "TIDEMARK_RUN")}
    env.update(extra or {})
    return env


def plain(command, env=None, **how):
    return execute(command, env=clean_environment(env), **how)


def processes_of(folder):
    """Who was started by a test with this folder and still lives: {pid: command}. Their environment tells."""
    found = {}
    mark = f"TIDEMARK_TEST_FOLDER={folder}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if mark not in file.read().split(b"\0"):
                    continue
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if command := file.read():   # empty: a zombie
                    found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace")[:200]
        except OSError:
            pass   # ended meanwhile
    return found


class Site:
    """All stacks whose innermost function is the same, added up."""

    KEYS = ("allocated_count", "allocated_bytes", "freed_count", "freed_bytes", "live_count", "live_bytes",
            "inherited_live_count", "inherited_live_bytes", "peak_live_bytes")

    def __init__(self, stacks):
        self.stacks = stacks
        for key in self.KEYS:
            setattr(self, key, sum(s[key] for s in stacks))


def bare(function):
    """A function's name without parameters, template arguments and clone suffixes."""
    name = re.sub(r"\(.*", "", function or "")
    name = re.sub(r"<.*", "", name)
    return name.split(".")[0]


def real_frames(site):
    return [f for f in site["frames"] if not f.get("inlined")]


class Report:
    """One region's `report --json`."""

    def __init__(self, raw, path=""):
        self.raw, self.path = raw, path
        self.process, self.totals = raw["process"], raw["totals"]
        self.coverage, self.sites = raw["coverage"], raw["sites"]

    @property
    def pid(self):
        return self.process["pid"]

    def site(self, function):
        return Site([s for s in self.sites if s["frames"] and bare(real_frames(s)[0]["function"]) == function])

    def under(self, function):
        """All stacks that have this function anywhere."""
        return Site([s for s in self.sites if any(bare(f["function"]) == function for f in s["frames"])])

    def losses(self):
        losses = {k: v for k, v in self.coverage.items() if k not in FACTS and isinstance(v, (int, float)) and v}
        if losses.get("guessed_frames", 0) <= 2:   # _dl_start_user in ld.so has no unwind data: the end of any constructor's stack
            losses.pop("guessed_frames", None)
        return losses

    def contradictions(self):
        """What must hold in any report; a list of sentences, empty when it does."""
        wrong = []
        totals = self.totals
        for what in ("count", "bytes"):
            for key in ("allocated", "freed", "live"):
                if totals[f"{key}_{what}"] < 0:
                    wrong.append(f"totals.{key}_{what} is negative: {totals[f'{key}_{what}']}")
            if totals[f"live_{what}"] != totals[f"allocated_{what}"] - totals[f"freed_{what}"]:
                wrong.append(f"totals: live_{what} is not allocated - freed: {totals}")
            if self.raw.get("sites_total", len(self.sites)) > len(self.sites):
                continue   # only the largest were asked for
            for key in ("allocated", "freed", "live"):
                in_sites = sum(s[f"{key}_{what}"] for s in self.sites)
                if in_sites != totals[f"{key}_{what}"]:
                    wrong.append(f"totals.{key}_{what} {totals[f'{key}_{what}']} is not the sum over sites {in_sites}")
            inherited = sum(s[f"inherited_live_{what}"] for s in self.sites)
            unknown = self.coverage.get("inherited_unknown_bytes", 0) if what == "bytes" else None
            if unknown is not None and totals.get(f"inherited_{what}", 0) not in (inherited, inherited + unknown):
                wrong.append(f"totals.inherited_{what} {totals.get(f'inherited_{what}')} is not the sum over sites {inherited}")
        for site in self.sites:
            for key in Site.KEYS:
                if site[key] < 0:
                    wrong.append(f"{key} is negative in stack {site['stack_id']}")
            for what in ("count", "bytes"):
                if site[f"live_{what}"] != site[f"allocated_{what}"] - site[f"freed_{what}"]:
                    wrong.append(f"stack {site['stack_id']}: live_{what} is not allocated - freed")
            if site["live_bytes"] > site["peak_live_bytes"] and not self.coverage.get("peak_error_bytes"):
                wrong.append(f"stack {site['stack_id']}: live {site['live_bytes']} above its peak {site['peak_live_bytes']}")
            for frame in site["frames"]:
                if "libtidemark" in (frame.get("module") or ""):
                    wrong.append(f"the shim's own frame in stack {site['stack_id']}: {frame}")
                    break
        if totals["peak_live_bytes"] < totals["live_bytes"] and not self.coverage.get("peak_error_bytes"):
            wrong.append(f"totals: live above the peak: {totals}")
        return wrong


def read_report(path, top=0):
    done = execute([TIDEMARK, "report", "--json", "--top", str(top), path], env=clean_environment())
    if done.status != 0:
        raise AssertionError(f"report {path}: status {done.status}: {done.err.decode(errors='replace')}")
    return Report(json.loads(done.out), path)


def read_reports(paths, top=0):
    """Of several files, by one command."""
    if len(paths) < 2:
        return [read_report(path, top) for path in paths]
    done = execute([TIDEMARK, "report", "--json", "--top", str(top), *paths], env=clean_environment())
    if done.status != 0:
        raise AssertionError(f"report {paths}: status {done.status}: {done.err.decode(errors='replace')}")
    return [Report(raw, path) for raw, path in zip(json.loads(done.out)["reports"], paths, strict=True)]


def regions_in(folder):
    return sorted(glob.glob(os.path.join(folder, "**", "*.tide"), recursive=True))


def used_pages(path):
    with open(path, "rb") as region:   # format/region.h: Header::used_pages
        return struct.unpack_from("<Q", region.read(64), 40)[0]


class Tracked(Outcome):
    """A command that ran under tidemark, and the folder of its regions."""

    def __init__(self, outcome, folder):
        super().__init__(outcome.status, outcome.out, outcome.err, outcome.pid)
        self.folder = folder

    def files(self):
        return regions_in(self.folder)

    def reports(self):
        return [read_report(path) for path in self.files()]

    def report(self, top=0):
        """The region of the only process; fails when there is not just one."""
        files = self.files()
        if len(files) != 1:
            raise AssertionError(f"one region expected, got {[os.path.basename(f) for f in files]}; stderr: {self.err[-2000:]}")
        return read_report(files[0], top)


class TestCase(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="tidemark-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def new_folder(self):
        return tempfile.mkdtemp(dir=self.folder)

    def tracked(self, command, options=None, *, folder=None, env=None, **how):
        """Under `tidemark run`."""
        folder = folder or self.new_folder()
        settings = [f"--{key}={value}" for key, value in (options or {}).items()]
        env = clean_environment({"REGION_DIR": folder, **(env or {})})
        return Tracked(execute([TIDEMARK, "run", "-o", folder, *settings, "--", *command], env=env, **how), folder)

    def preloaded(self, command, options=None, *, folder=None, env=None, **how):
        """By LD_PRELOAD alone, as a service manager would."""
        folder = folder or self.new_folder()
        settings = ":".join(f"{key}={value}" for key, value in {"dir": folder, **(options or {})}.items())
        env = clean_environment({"REGION_DIR": folder, "LD_PRELOAD": LIBRARY, "TIDEMARK_OPTIONS": settings, **(env or {})})
        return Tracked(execute(command, env=env, **how), folder)

    def assert_same_behaviour(self, without, under, normalise=lambda text: text):
        self.assertEqual(without.status, under.status, f"stderr: {under.err.decode(errors='replace')[-2000:]}")
        self.assertEqual(normalise(without.out), normalise(under.out))
        self.assertEqual(normalise(without.err), normalise(under.err))

    def assert_consistent(self, report):
        self.assertEqual([], report.contradictions(), report.path)

    def assert_explained(self, ledger):
        """RSS is the sum of its parts but for 3 % and 4 MiB, whatever the program."""
        parts = ("live", "rounding", "allocator", "mappings", "thread_stacks", "tidemark")
        self.assertEqual(ledger["rss"], sum(ledger[part] for part in parts) + ledger["residual"])
        self.assertLess(abs(ledger["residual"]), 0.03 * ledger["rss"] + (4 << 20), ledger)

    def assert_table(self, tracked, losses_allowed=()):
        """Compares all that the victim printed with the reports of the processes concerned."""
        table = Table(tracked.out)
        self.assertTrue(table.rows, f"the victim printed no table: {tracked.err!r}")
        reports = {}
        for report in tracked.reports():
            self.assert_consistent(report)
            reports.setdefault(report.pid, []).append(report)
            self.assertEqual({}, {k: v for k, v in report.losses().items() if k not in losses_allowed}, report.path)
        self.assertEqual([], table.differences(reports))
        return reports


class Table:
    """The JSON lines in a victim's output: what its report must say."""

    def __init__(self, output):
        self.rows = []
        for line in output.decode(errors="replace").splitlines():
            if line.startswith('{"pid"'):
                self.rows.append(json.loads(line))

    def differences(self, reports):
        """reports: pid → its reports, in order of image (exec). A list of sentences, empty when all is as expected."""
        wrong = []
        for row in self.rows:
            of_process = reports.get(row["pid"], [])
            if "region" in row:
                if row["region"] != bool(of_process):
                    wrong.append(f"pid {row['pid']}: a region is {'missing' if row['region'] else 'there'}")
                continue
            if not of_process:
                wrong.append(f"pid {row['pid']}: no region, expected {row}")
                continue
            site = of_process[-1].site(row["site"])
            if "callers" in row:
                wrong.extend(self.wrong_callers(row, site))
                continue
            want = {k: v for k, v in row.items() if k not in ("pid", "site")}
            if "allocated_count" in want:
                want["live_count"] = want["allocated_count"] - want["freed_count"]
                want["live_bytes"] = want["allocated_bytes"] - want["freed_bytes"]
            got = {k: getattr(site, k) for k in want}
            if want != got:
                wrong.append(f"pid {row['pid']} {row['site']}: expected {want}, got {got}")
        return wrong

    @staticmethod
    def wrong_callers(row, site):
        want = [row["site"], *row["callers"].split()]
        wrong = []
        if not site.stacks:
            wrong.append(f"pid {row['pid']} {row['site']}: no stack at all")
        for stack in site.stacks:
            got = [bare(f["function"]) for f in real_frames(stack)][:len(want)]
            if got != want:
                wrong.append(f"pid {row['pid']} {row['site']}: stack {stack['stack_id']} is {got}, expected {want}")
        return wrong


def has(program):
    return shutil.which(program) is not None


def tidemark_run(command, folder, **options):
    """The command line, for programs that a test starts in the background."""
    return [TIDEMARK, "run", "-o", folder, *[f"--{k}={v}" for k, v in options.items()], "--", *command]


def wait_until(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
