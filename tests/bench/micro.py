"""The micro-benchmarks: ns of a pair of malloc and free."""
import itertools
import json
import statistics
import subprocess

from measure import Failed, plain_environment

BUILDS = ("micro", "micro_fp")
TOOLS = ("glibc", "jemalloc", "tidemark", "heaptrack")   # the others are slower still, and sample or skip
ONE_THREAD = "hit/depth:14/size:64"
TWO_THREADS = "hit/depth:14/size:64/real_time/threads:2"


def call(command, env):
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=300)
    if done.returncode != 0:
        raise Failed(f"status {done.returncode}: {done.stderr[-500:].decode(errors='replace')}")
    return done.stdout


def names(program):
    return call([program, "--benchmark_list_tests=true"], plain_environment()).decode().split()


def run(program, name, env):
    """ns an iteration, of wall time."""
    text = call([program, "--benchmark_format=json", "--benchmark_min_time=0.1", f"--benchmark_filter=^{name}$"], env)
    (result,) = json.loads(text)["benchmarks"]
    return result["real_time"]


def middle(values):
    return statistics.median(values) if values else None


class Times:
    def __init__(self):
        self.all = {}   # (build, name, tool) -> [ns or None], one a round

    def add(self, build, name, tool, ns):
        self.all.setdefault((build, name, tool), []).append(ns)

    def together(self, *keys):
        """Of each round in which all of them were measured."""
        return [values for values in zip(*(self.all.get(key, []) for key in keys)) if None not in values]

    def rows(self):
        rows = []
        for (build, name, tool), values in self.all.items():
            measured = [ns for ns in values if ns is not None]
            if not measured:
                continue
            over = [ns - other for ns, other in self.together((build, name, tool), (build, name, "jemalloc"))]
            rows.append({"build": build, "name": name.replace("/iterations:60000", ""), "tool": tool, "ns": middle(measured), "lowest": min(measured),
                         "highest": max(measured), "over_jemalloc": middle(over), "over_jemalloc_ns": over})
        return rows

    def scaling(self):
        """What a second thread brings under tidemark ÷ what it brings under jemalloc."""
        rows = []
        for build in BUILDS:
            rounds = self.together(*((build, name, tool) for tool, name in itertools.product(("tidemark", "jemalloc"), (ONE_THREAD, TWO_THREADS))))
            ratios = [(one / two) / (other_one / other_two) for one, two, other_one, other_two in rounds]
            if ratios:
                rows.append({"build": build, "ratio": middle(ratios), "ratios": ratios})
        return rows


def print_table(rows, scaling):
    columns = list(dict.fromkeys(r["tool"] for r in rows))
    print(f"\n{'ns a pair':10}{'':44}" + "".join(f"{tool:>22}" for tool in columns) + f"{'tidemark - jemalloc':>26}")
    table = {(r["build"], r["name"], r["tool"]): r for r in rows}
    for build, name in dict.fromkeys((r["build"], r["name"]) for r in rows):
        cells = [table.get((build, name, tool)) for tool in columns]
        line = f"{build:9} {name:44}" + "".join(cell(c["ns"], c["lowest"], c["highest"], 22) if c else " " * 22 for c in cells)
        ours = table.get((build, name, "tidemark"))
        if ours and ours["over_jemalloc_ns"]:
            line += cell(ours["over_jemalloc"], min(ours["over_jemalloc_ns"]), max(ours["over_jemalloc_ns"]), 26)
        print(line)
    for row in scaling:
        print(f"{row['build']:9} two threads against one, tidemark's ÷ jemalloc's: {row['ratio']:.2f} ({min(row['ratios']):.2f}–{max(row['ratios']):.2f})")


def cell(middle_value, lowest, highest, width):
    return f"{middle_value:.1f} ({lowest:.0f}–{highest:.0f})".rjust(width)
