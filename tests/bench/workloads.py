"""Programs that run to their end: what they cost is what they cost as a whole."""
import os
import subprocess
import time

from measure import Failed, Process, client, plain_environment
import wrtc
from tools import which

STORM = """
import json
kept = []
for round in range({rounds}):
    rows = [{{'id': i, 'name': 'user %d' % i, 'tags': ['a', 'b', str(i)], 'position': {{'x': i * 1.5, 'y': -i}}}} for i in range(2000)]
    text = json.dumps(rows)
    back = json.loads(text)
    table = {{row['id']: row for row in back}}
    kept.append(table[round % 2000])
    words = text.split('"')
    del rows, back, table, words
"""

SQL = """
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
  INSERT INTO t SELECT i, 'name ' || (i * 7919 % 100003), i * 0.5, hex(i * 104729) FROM n;
CREATE INDEX by_name ON t(name);
SELECT count(*), sum(length(group_concat)) FROM (SELECT group_concat(name || note) AS group_concat FROM t GROUP BY id % 1000);
SELECT count(*) FROM t a JOIN t b ON a.name = b.name WHERE a.id < 20000;
UPDATE t SET note = note || name WHERE id % 3 = 0;
SELECT count(DISTINCT note) FROM t;
"""

TEMPLATES = """
#include <algorithm>
#include <functional>
#include <map>
#include <ranges>
#include <regex>
#include <string>
#include <tuple>
#include <variant>
#include <vector>
template <int N> struct Chain {
  using Type = std::tuple<typename Chain<N - 1>::Type, std::map<std::integral_constant<int, N>, std::variant<int, double, std::string>>*>;
  static int run() {
    std::vector<std::variant<int, std::string, std::integral_constant<int, N>*>> values;
    values.emplace_back(N);
    return std::visit([](auto&& x) -> int { if constexpr (std::is_same_v<std::decay_t<decltype(x)>, int>) return x; else return 0; }, values[0])
         + Chain<N - 1>::run();
  }
};
template <> struct Chain<0> { using Type = int; static int run() { return 0; } };
int main() {
  std::regex pattern("(a|b)*c");
  std::string text;
  for (auto x : std::views::iota(0, 10) | std::views::transform([](int i) { return i * i; })) text += std::to_string(x);
  return Chain<40>::run() + std::regex_match(text, pattern);
}
"""


class Workload:
    name = ""
    unit = None        # batch: the whole run; else what one unit is
    needs = ()
    python = False     # memray can run it

    def __init__(self, scale, cache):
        self.scale, self.cache = scale, cache

    def size(self, full):
        """Of something that is `full` at scale 1; never none of it."""
        return max(1, int(full * self.scale))

    def prepare(self):
        """Once, and not measured; what all runs share. Raises Failed."""

    def run(self, tool, env, folder):
        """In turns, so that others' come in between: yields after each, and returns the Cost. Raises Failed."""
        raise NotImplementedError

    def missing(self):
        for program in self.needs:
            if not which(program):
                return f"{program} is not installed"
        return None


class Batch(Workload):
    turn = 0.1   # seconds, long beside what it takes to have the caches as they were
    limit = 600

    def command(self, folder):
        raise NotImplementedError

    def environment(self):
        return {}

    def run(self, tool, env, folder):
        process = Process(tool.command(self.command(folder), folder), {**env, **self.environment(), **tool.environment(folder)}, folder)
        try:
            while not process.take_turn(self.turn):
                if process.ran_for() > self.limit:
                    raise Failed(f"does not end: {process.command}")
                yield
            cost = process.wait()
        finally:
            process.kill()
        cost.units, cost.rate = 1, 1 / cost.wall
        return cost


class InParts(Workload):
    """A process that is asked for its load part by part, and idle while it is another's turn. What it costs is what the load costs."""
    parts = 8

    def begin(self, tool, env, folder):
        """Starts it: the Process, and what load() is told."""
        raise NotImplementedError

    def load(self, target, part):
        """The part of that number of the load: units done, and seconds they took."""
        raise NotImplementedError

    def finish(self, process):
        """Ends it: its Cost."""
        raise NotImplementedError

    def share(self, full):
        """Of something that all parts together do `full` times at scale 1."""
        return max(1, self.size(full) // self.parts)

    def run(self, tool, env, folder):
        process, target = self.begin(tool, env, folder)
        cpu = units = seconds = 0
        try:
            for part in range(self.parts):
                yield
                before = process.cpu_now()
                done, took = self.load(target, part)
                cpu, units, seconds = cpu + process.cpu_now() - before, units + done, seconds + took
            cost = self.finish(process)
        finally:
            process.kill()
        cost.cpu, cost.units, cost.rate = cpu, units, units / seconds
        return cost


class Storm(Batch):
    name, python = "storm", True

    def prepare(self):
        self.script = os.path.join(self.cache, "storm.py")
        with open(self.script, "w") as file:
            file.write(STORM.format(rounds=self.size(150)))

    def command(self, folder):
        return ["/usr/bin/python3", self.script]

    def environment(self):
        return {"PYTHONMALLOC": "malloc"}


class Sqlite(Batch):
    name, needs = "sqlite", ("sqlite3",)

    def prepare(self):
        self.script = os.path.join(self.cache, "bulk.sql")
        with open(self.script, "w") as file:
            file.write(SQL.format(rows=self.size(600_000)))

    def command(self, folder):
        return ["sqlite3", ":memory:", f".read {self.script}"]


class Compiler(Batch):
    """cc1plus itself: the driver would add three processes that are not the point."""
    name, needs = "cc1plus", ("g++",)

    def prepare(self):
        self.source = os.path.join(self.cache, "templates.cpp")
        with open(self.source, "w") as file:
            file.write(TEMPLATES)
        self.program = client(["g++", "-print-prog-name=cc1plus"]).strip()

    def command(self, folder):
        return [self.program, "-quiet", "-imultiarch", "x86_64-linux-gnu", "-D_GNU_SOURCE", "-std=c++20", "-fsyntax-only", self.source]


class Ffmpeg(Batch):
    """A transcode: H.264 with AAC is decoded, and encoded as MPEG-4 with AC-3 at a lower bitrate."""
    name, needs = "ffmpeg", ("ffmpeg",)

    def prepare(self):
        seconds = self.size(80)
        self.film = os.path.join(self.cache, f"film-{seconds}s.mkv")   # by its size: another scale makes another one
        if os.path.exists(self.film):
            return
        part = self.film + ".part"   # a film that was interrupted is none
        client(["ffmpeg", "-nostdin", "-y", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=duration={seconds}:size=640x360:rate=30", "-f", "lavfi",
                "-i", f"sine=frequency=440:duration={seconds}", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "1M", "-c:a", "aac",
                "-b:a", "128k", "-f", "matroska", part], env=plain_environment(), limit=3600)
        os.rename(part, self.film)

    def command(self, folder):
        return ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", self.film, "-c:v", "mpeg4", "-b:v", "600k", "-c:a", "ac3", "-b:a", "96k",
                "-threads", "1", "-f", "null", "-"]


class Larson(Batch):
    """Four threads; each frees what another one allocated."""
    name = "larson"

    def command(self, folder):
        return [os.path.join(os.environ["BENCH_PROGRAMS"], "larson"), "4", str(self.size(1_500_000))]


class Wrtc(InParts):
    """Calls between two peers in one node; a unit is a call."""
    name, needs, unit, parts, calls = "node-wrtc", ("node", "npm"), "call", 20, 40

    def missing(self):
        missing = super().missing()
        if missing:
            return missing
        try:
            self.env = wrtc.environment(self.cache)
        except wrtc.Missing as reason:
            return str(reason)
        return None

    def begin(self, tool, env, folder):
        command = tool.command(wrtc.command("-", 300), folder)
        process = Process(command, {**env, **self.env, **tool.environment(folder)}, folder, stdin=subprocess.PIPE)
        return process, process

    def load(self, target, part):
        calls = self.share(self.calls)
        wanted = target.text().count("echoed") + calls
        started = time.perf_counter()
        target.process.stdin.write(b"%d\n" % calls)
        target.process.stdin.flush()
        while target.text().count("echoed") < wanted:
            took = time.perf_counter() - started
            if took > 120 or target.run_until(time.perf_counter() + 0.002):
                raise Failed(f"its calls did not end\n{target.tail()}")
        return calls, time.perf_counter() - started

    def finish(self, process):
        process.process.stdin.close()
        return process.wait()


BATCH = [Storm, Sqlite, Compiler, Ffmpeg, Larson, Wrtc]
