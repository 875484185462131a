"""Times workloads under plain glibc, tidemark and its peers, and prints ratios to glibc within the same round. In a round glibc, jemalloc and tidemark
take turns of a tenth of a second or a small part of the load, so that a machine's noise, which comes and goes in seconds, hits them alike; the others, which
cost a multiple, follow one by one. What is compared is CPU a unit of work; medians of ratios and their spread are what counts."""
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile

import micro
import tools
import write_back
from measure import Failed, adopt_orphans, end_descendants, plain_environment
from micro import middle
from options import arguments
from servers import SERVERS
from tools import say
from workloads import BATCH


class Ended(BaseException):
    """A signal that ends the series came."""


def end_on_signals():
    def end(number, _):
        ignore_signals()   # what is left to do is quick, and must not be cut short
        raise Ended(number)
    for number in signals():
        signal.signal(number, end)


def ignore_signals():
    for number in signals():
        signal.signal(number, signal.SIG_IGN)


def signals():
    """That of a closed terminal only where nohup does not keep it away."""
    return [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else [])


class Bench:
    def __init__(self, chosen):
        self.chosen, self.folder = chosen, None
        self.tools, self.workloads = [], []
        self.costs = {}        # (workload, tool) -> [(Cost, helper's Cost or None, bytes left) or None]
        self.micro_times = micro.Times()
        self.minute = []
        self.complete = False
        self.failed = []       # besides those of costs

    def wanted(self, name):
        return self.chosen.workloads is None or name in self.chosen.workloads

    def prepare(self):
        chosen = self.chosen
        os.environ["BENCH_PROGRAMS"] = chosen.programs
        self.tools = self.usable([t for t in tools.all_tools(chosen.library, chosen.memray, chosen.other)
                                  if t.name in ("glibc", "other") or chosen.tools is None or t.name in chosen.tools])
        workloads = [w(chosen.scale, chosen.cache) for w in BATCH + SERVERS if self.wanted(w.name)]
        self.workloads = [w for w in self.usable(workloads) if self.prepared(w)]

    def prepared(self, workload):
        try:
            workload.prepare()
        except (Failed, OSError) as error:
            say(f"without {workload.name}: {error}")
            self.failed.append(f"preparing {workload.name}")
            return False
        return True

    def measure(self):
        self.folder = tempfile.mkdtemp(dir="/var/tmp", prefix="bench-")
        os.chmod(self.folder, 0o711)   # servers that change their user pass through
        self.prepare()
        self.run()
        if self.wanted("micro"):
            self.run_micro()
        if self.wanted("write-back"):
            self.run_write_back()
        self.complete = True

    @staticmethod
    def usable(things):
        usable = []
        for thing in things:
            missing = thing.missing()
            if missing:
                say(f"without {thing.name}: {missing}")
            else:
                usable.append(thing)
        return usable

    def own_folder(self, tool):
        """For one measurement; within the one that is removed at the end of all, whatever that end is."""
        folder = tempfile.mkdtemp(dir=self.folder, prefix=f"{tool.name}-")
        os.mkdir(os.path.join(folder, "tool"))
        for path in (folder, os.path.join(folder, "tool")):   # for servers that change their user
            os.chmod(path, 0o777)
        return folder

    def once(self, workload, tool):
        """Yields after each turn; returns what is kept of it in costs."""
        folder = self.own_folder(tool)
        result = None
        try:
            tool.begin(folder)
            cost = yield from workload.run(tool, plain_environment(), folder)
            result = cost, tool.finish(), tool.left(folder)
        except Exception as error:   # whatever it is, the other measurements go on
            say(f"  {workload.name} under {tool.name}: {error if isinstance(error, (Failed, OSError)) else repr(error)}")
        shutil.rmtree(folder, ignore_errors=True)
        return result

    def round(self, workload, order):
        """{name of the tool: what once() returned}. Those that cost a multiple come one by one: beside them all others would live many times as long."""
        results = self.in_turns(workload, [tool for tool in order if tool.light])
        for tool in order:
            if not tool.light:
                results |= self.in_turns(workload, [tool])
        return results

    def in_turns(self, workload, order):
        results = {}
        turns = {tool.name: self.once(workload, tool) for tool in order}
        while turns:
            for name, turn in list(turns.items()):
                try:
                    next(turn)
                except StopIteration as end:
                    results[name] = end.value
                    del turns[name]
        end_descendants()   # helpers of one that failed, children that a killed program left
        return results

    def run(self):
        for number in range(self.chosen.rounds):
            for workload in self.workloads:
                order = self.tools[number % len(self.tools):] + self.tools[:number % len(self.tools)]
                for name, result in self.round(workload, [t for t in order if workload.python or not t.python_only]).items():
                    self.costs.setdefault((workload.name, name), []).append(result)
                say(f"round {number + 1}: {workload.name}")

    def ratios(self, workload, tool, value, base="glibc"):
        pairs = zip(self.costs.get((workload, tool), []), self.costs.get((workload, base), []))
        return [value(mine) / value(plain) for mine, plain in pairs if mine and plain and value(plain)]

    def rows(self):
        for workload, tool in itertools.product(self.workloads, self.tools):
            results = [r for r in self.costs.get((workload.name, tool.name), []) if r]
            if not results:
                continue
            helpers = [helper for _, helper, _ in results if helper]
            cpu_a_unit = lambda r: r[0].cpu / r[0].units
            cpu = self.ratios(workload.name, tool.name, cpu_a_unit)
            to_other = {"cpu_ratios_to_other": self.ratios(workload.name, tool.name, cpu_a_unit, "other")} if tool.name == "tidemark" and self.chosen.other else {}
            rate = self.ratios(workload.name, tool.name, lambda r: r[0].rate)
            rss, written = ([getattr(r[0], what) / 2**20 for r in results] for what in ("rss", "written"))
            yield {
                "workload": workload.name, "tool": tool.name, "unit": workload.unit or "run", "runs": len(results),
                "cpu_ms_per_unit": middle([1000 * r[0].cpu / r[0].units for r in results]),
                "cpu_ratio": middle(cpu), "cpu_ratios": cpu, "rate_ratio": middle(rate), "rate_ratios": rate,
                "rss_mb": middle(rss), "rss_mb_lowest": min(rss), "rss_mb_highest": max(rss),
                "rss_ratio": middle(self.ratios(workload.name, tool.name, lambda r: r[0].rss)),
                "written_mb": middle(written), "written_mb_lowest": min(written), "written_mb_highest": max(written),
                "left_mb": middle([r[2] / 2**20 for r in results]),
                "helper_cpu_s": middle([h.cpu for h in helpers]), "helper_rss_mb": middle([h.rss / 2**20 for h in helpers]),
                **to_other,
            }

    def run_micro(self):
        chosen = [tool for tool in self.tools if tool.name in micro.TOOLS]
        for _ in range(self.chosen.rounds):
            for build in micro.BUILDS:
                self.micro_round(os.path.join(self.chosen.programs, build), build, chosen)
            say("micro-benchmarks")

    def micro_round(self, program, build, chosen):
        """One benchmark after the other, each under one tool after the other: between a tool's figure and another's there is a second, not a minute."""
        try:
            names = micro.names(program)
        except (Failed, OSError) as error:
            say(f"  {build}: {error}")
            self.failed.append(build)
            return
        for name, tool in itertools.product(names, chosen):
            folder = self.own_folder(tool)
            try:
                tool.begin(folder)
                ns = micro.run(program, name, {**plain_environment(), **tool.environment(folder)})
                tool.finish()
            except Exception as error:
                say(f"  {build} {name} under {tool.name}: {error!r}")
                self.failed.append(f"{build} {name} under {tool.name}")
                ns = None
            self.micro_times.add(build, name, tool.name, ns)
            end_descendants()
            shutil.rmtree(folder, ignore_errors=True)

    def run_write_back(self):
        try:
            self.minute = write_back.measure(self.chosen.library, max(5, 120 * self.chosen.scale), self.folder)
        except Failed as error:
            say(f"  {error}")
            self.failed.append("write-back")

    def failures(self):
        return [f"{workload} under {tool}" for (workload, tool), results in self.costs.items() if None in results] + list(dict.fromkeys(self.failed))


def number(value, form):
    return "–" if value is None else format(value, form)


def spread(values):
    return f"{min(values):.2f}–{max(values):.2f}" if values else ""


def print_table(rows):
    print(f"{'workload':10} {'tool':10} {'CPU ÷ glibc':>12} {'spread':>10} {'rate':>6} {'spread':>10} {'RSS ÷':>6} {'RSS MB':>7} "
          f"{'written MB':>10} {'file MB':>8} {'helper CPU s':>12} {'helper MB':>9}")
    last = None
    for row in rows:
        if last not in (None, row["workload"]):
            print()
        last = row["workload"]
        print(f"{row['workload']:10} {row['tool']:10} {number(row['cpu_ratio'], '.2f'):>12} {spread(row['cpu_ratios']):>10} "
              f"{number(row['rate_ratio'], '.2f'):>6} {spread(row['rate_ratios']):>10} {number(row['rss_ratio'], '.2f'):>6} "
              f"{number(row['rss_mb'], '.0f'):>7} {number(row['written_mb'], '.1f'):>10} {number(row['left_mb'], '.1f'):>8} "
              f"{number(row['helper_cpu_s'], '.1f'):>12} {number(row['helper_rss_mb'], '.0f'):>9}")
    print("\nCPU: user + system of the program (servers: during the load) a unit of work; medians of ratios within a round. rate: of work done, in a tool's own turns.")
    for row in rows:
        if ratios := row.get("cpu_ratios_to_other"):
            print(f"{row['workload']}: tidemark's CPU ÷ the other build's {middle(ratios):.3f} ({spread(ratios)})")


def print_write_back(rows):
    print("\nwritten back by a process under tidemark")
    for row in rows:
        print(f"  {row['process']}: {row['bytes_per_minute'] / 2**20:.2f} MB a minute; region {row['region_bytes'] / 2**20:.0f} MB, as at the start")


def series(bench):
    """All of it, or until a signal comes: its number, or 0. Nothing that was started is left."""
    ended = 0
    end_on_signals()
    try:
        bench.measure()
        ignore_signals()
    except Ended as end:
        ended = end.args[0]
        say(f"ended by {signal.Signals(ended).name}; what was finished:")
    except OSError as error:   # no room for a folder, say: what was measured is not lost
        say(f"ended: {error}; what was finished:")
        bench.failed.append("the series")
    finally:
        ignore_signals()
        end_descendants()
        if bench.folder:
            shutil.rmtree(bench.folder, ignore_errors=True)
    return ended


def report(bench):
    """Whether all of it could be written."""
    chosen = bench.chosen
    rows, micro_rows = list(bench.rows()), bench.micro_times.rows()
    with contextlib.redirect_stdout(sys.stderr if chosen.json == "-" else sys.stdout):
        if rows:
            print_table(rows)
        if micro_rows:
            micro.print_table(micro_rows, bench.micro_times.scaling())
        if bench.minute:
            print_write_back(bench.minute)
    if not chosen.json:
        return True
    return write_json(chosen.json, {"rounds": chosen.rounds, "scale": chosen.scale, "complete": bench.complete, "workloads": rows, "micro": micro_rows,
                                    "micro_scaling": bench.micro_times.scaling(), "write_back": bench.minute})


def write_json(path, figures):
    text = json.dumps(figures, indent=1)
    try:
        if path == "-":
            print(text, flush=True)
        else:
            with open(path, "w") as file:
                file.write(text + "\n")
    except OSError as error:
        say(f"cannot write {path}: {error.strerror}")
        return False
    return True


def main():
    chosen = arguments(__doc__)
    if chosen.check:
        return 0
    adopt_orphans()
    bench = Bench(chosen)
    ended = series(bench)
    written = report(bench)
    failures = bench.failures()
    for each in failures:
        say(f"failed: {each}")
    if ended:
        return 128 + ended
    return 1 if failures or not written else 0


if __name__ == "__main__":
    sys.exit(main())
