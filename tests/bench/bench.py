"""Times workloads under plain glibc, tidemark and its peers, interleaved, and prints ratios to glibc within the same round. What is compared is CPU
a unit of work; a machine's noise hits all tools of a round alike, so medians of ratios and their spread are what counts."""
import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import tools
import write_back
from measure import Failed
from servers import SERVERS
from tools import say
from workloads import BATCH

MICRO_TOOLS = ("glibc", "jemalloc", "tidemark", "heaptrack")   # the others are slower still, and sample or skip


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--library", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--memray", default="", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--scale", type=float, default=1, help="size of each workload (default 1: one to a few seconds)")
    parser.add_argument("--tools", help="only these, by comma; glibc always")
    parser.add_argument("--workloads", help="only these, by comma; micro are the micro-benchmarks, write-back what a minute writes to the disk")
    parser.add_argument("--json", metavar="FILE", help="all figures, for machines; - for standard output instead of the table")
    chosen = parser.parse_args()
    chosen.library = os.path.abspath(chosen.library)
    return chosen


class Bench:
    def __init__(self, chosen):
        self.chosen = chosen
        os.environ["BENCH_PROGRAMS"] = chosen.programs
        wanted = chosen.tools.split(",") if chosen.tools else None
        self.tools = self.usable([t for t in tools.all_tools(chosen.library, chosen.memray)
                                  if t.name == "glibc" or wanted is None or t.name in wanted])
        os.makedirs(chosen.cache, exist_ok=True)
        wanted = chosen.workloads.split(",") if chosen.workloads else None
        all_of_them = [w(chosen.scale, chosen.cache) for w in BATCH + SERVERS]
        self.workloads = self.usable([w for w in all_of_them if wanted is None or w.name in wanted])
        self.micro = wanted is None or "micro" in wanted
        self.write_back = wanted is None or "write-back" in wanted
        for workload in self.workloads:
            workload.prepare()
        self.costs = {}   # (workload, tool) -> [(Cost, helper's Cost or None, bytes left) or None]

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

    def environment(self):
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        return {name: os.environ[name] for name in kept if name in os.environ}

    def once(self, workload, tool):
        folder = tempfile.mkdtemp(dir="/var/tmp", prefix="bench-")
        os.chmod(folder, 0o777)   # for servers that change their user
        os.mkdir(os.path.join(folder, "tool"))
        os.chmod(os.path.join(folder, "tool"), 0o777)
        tool.begin(folder)
        cost = None
        try:
            cost = workload.run(tool, self.environment(), folder)
        except (Failed, OSError, ValueError) as error:
            say(f"  {workload.name} under {tool.name}: {error}")
        helper, left = tool.finish(), tool.left(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return cost and (cost, helper, left)

    def run(self):
        for number in range(self.chosen.rounds):
            for workload in self.workloads:
                order = self.tools[number % len(self.tools):] + self.tools[:number % len(self.tools)]
                for tool in order:
                    if tool.python_only and not workload.python:
                        continue
                    result = self.once(workload, tool)
                    self.costs.setdefault((workload.name, tool.name), []).append(result)
                say(f"round {number + 1}: {workload.name}")

    def ratios(self, workload, tool, value):
        pairs = zip(self.costs.get((workload, tool), []), self.costs.get((workload, "glibc"), []))
        return [value(mine) / value(plain) for mine, plain in pairs if mine and plain and value(plain)]

    def rows(self):
        for workload, tool in itertools.product(self.workloads, self.tools):
            results = [r for r in self.costs.get((workload.name, tool.name), []) if r]
            if not results:
                continue
            middle = lambda values: statistics.median(values) if values else None
            helpers = [helper for _, helper, _ in results if helper]
            cpu = self.ratios(workload.name, tool.name, lambda r: r[0].cpu / r[0].units)
            rate = self.ratios(workload.name, tool.name, lambda r: r[0].rate)
            yield {
                "workload": workload.name, "tool": tool.name, "unit": workload.unit or "run", "runs": len(results),
                "cpu_ms_per_unit": middle([1000 * r[0].cpu / r[0].units for r in results]),
                "cpu_ratio": middle(cpu), "cpu_ratios": cpu, "rate_ratio": middle(rate), "rate_ratios": rate,
                "rss_mb": middle([r[0].rss / 2**20 for r in results]),
                "rss_ratio": middle(self.ratios(workload.name, tool.name, lambda r: r[0].rss)),
                "written_mb": middle([r[0].written / 2**20 for r in results]),
                "left_mb": middle([r[2] / 2**20 for r in results]),
                "helper_cpu_s": middle([h.cpu for h in helpers]), "helper_rss_mb": middle([h.rss / 2**20 for h in helpers]),
            }

    def run_micro(self):
        """[{name, build, tool, ns}]: medians over rounds."""
        times = {}
        for _ in range(self.chosen.rounds):
            for build in ("micro", "micro_fp"):
                for tool in self.tools:
                    if tool.name not in MICRO_TOOLS:
                        continue
                    for name, ns in self.micro_once(build, tool):
                        times.setdefault((build, name, tool.name), []).append(ns)
            say("micro-benchmarks")
        return [{"build": build, "name": name, "tool": tool, "ns": statistics.median(values), "lowest": min(values), "highest": max(values)}
                for (build, name, tool), values in times.items()]

    def micro_once(self, build, tool):
        folder = tempfile.mkdtemp(dir="/var/tmp", prefix="bench-")
        os.mkdir(os.path.join(folder, "tool"))
        tool.begin(folder)
        program = os.path.join(self.chosen.programs, build)
        done = subprocess.run([program, "--benchmark_format=json", "--benchmark_min_time=0.1"], check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**self.environment(), **tool.environment(folder)})
        tool.finish()
        shutil.rmtree(folder, ignore_errors=True)
        if done.returncode != 0:
            say(f"  {build} under {tool.name}: {done.stderr[-500:]}")
            return []
        return [(b["name"].removesuffix("/real_time").replace("/iterations:60000", ""), b["real_time"])
                for b in json.loads(done.stdout)["benchmarks"]]


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
    print("\nCPU: user + system of the program (servers: during the load) a unit of work; medians of ratios within a round. rate: of work done.")


def print_micro(rows):
    names = list(dict.fromkeys((r["build"], r["name"]) for r in rows))
    columns = list(dict.fromkeys(r["tool"] for r in rows))
    print(f"\nns a pair {'':28}" + "".join(f"{tool:>22}" for tool in columns))
    table = {(r["build"], r["name"], r["tool"]): r for r in rows}
    for build, name in names:
        cells = [table.get((build, name, tool)) for tool in columns]
        print(f"{build:9} {name:28}" + "".join(f"{c['ns']:8.1f} ({c['lowest']:.0f}–{c['highest']:.0f})".rjust(22) if c else " " * 22 for c in cells))


def print_write_back(rows):
    print("\nwritten back by a process under tidemark")
    for row in rows:
        print(f"  {row['process']}: {row['bytes_per_minute'] / 2**20:.2f} MB a minute; region {row['region_bytes'] / 2**20:.0f} MB, as at the start")


def main():
    chosen = arguments()
    bench = Bench(chosen)
    bench.run()
    rows = list(bench.rows())
    micro = bench.run_micro() if bench.micro else []
    minute = write_back.measure(chosen.library, max(5, 120 * chosen.scale)) if bench.write_back else []
    if chosen.json:
        text = json.dumps({"rounds": chosen.rounds, "scale": chosen.scale, "workloads": rows, "micro": micro, "write_back": minute}, indent=1)
        if chosen.json == "-":
            print(text)
        else:
            with open(chosen.json, "w") as file:
                file.write(text)
    if chosen.json != "-":
        print_table(rows)
        if micro:
            print_micro(micro)
        if minute:
            print_write_back(minute)
    failed = [f"{workload} under {tool}" for (workload, tool), results in bench.costs.items() if None in results]
    for each in failed:
        say(f"failed: {each}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
