"""redis-server, which brings jemalloc and calls its own interface, under redis-benchmark; with a BGSAVE, which forks."""
import json
import os
import signal
import subprocess

import real
from real import support


class Redis(real.RealProgram):
    NEEDS = ("redis-server", "redis-benchmark", "redis-cli")

    def load(self, launcher):
        port = real.free_port()
        folder = self.new_folder()
        server = launcher.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                                 "--dir", folder])
        self.assertTrue(real.wait_for_port(port), launcher.text(server.output))
        cli = lambda *words: support.plain(["redis-cli", "-p", str(port), *words]).out.decode().strip()
        bench = support.plain(["redis-benchmark", "-p", str(port), "-q", "-n", "20000", "-c", "20", "-P", "4",
                               "-t", "set,get,incr,lpush,lrange_100,sadd,hset,spop,zadd"])
        self.assertEqual(0, bench.status, bench.err)
        facts = [cli("SET", "key", "value" * 1000), cli("GET", "key"), cli("LLEN", "mylist"), cli("GET", "counter:__rand_int__"),
                 cli("STRLEN", "key"), cli("BGSAVE")]
        self.assertTrue(support.wait_until(lambda: "rdb_bgsave_in_progress:0" in cli("INFO", "persistence")))
        facts += [cli("LASTSAVE") != "0", os.path.exists(os.path.join(folder, "dump.rdb")), cli("DBSIZE")]
        facts.append(self.end(launcher, server, cli))
        return facts

    def end(self, launcher, server, cli):
        cli("SHUTDOWN", "NOSAVE")
        return launcher.finish(server)[0]

    def test_benchmark(self):
        reports = self.both(self.load)
        server = self.of(reports, "redis-server")[0]
        self.assert_sensible(server, allocations=20000, live=100_000)
        modules = {os.path.basename(f["module"] or "") for s in server.sites for f in s["frames"]}
        self.assertTrue(any(m.startswith("redis-") for m in modules), modules)   # redis-server is a link to redis-check-rdb


class RedisKilled(Redis):
    """The same, ended by SIGKILL: the report is there all the same."""

    def end(self, launcher, server, cli):
        target = server.pid
        if launcher.recorded:
            with open(f"/proc/{server.pid}/task/{server.pid}/children") as children:
                (target,) = map(int, children.read().split())
        os.kill(target, signal.SIGKILL)
        return launcher.finish(server)[0]

    def test_benchmark(self):
        server = self.of(self.both(self.load), "redis-server")[0]
        self.assertEqual(("signaled", signal.SIGKILL), (server.process["ending"], server.process["signal"]))
        self.assertGreater(server.totals["live_bytes"], 100_000)
        self.assert_resolved(server)


class RedisCleaned(real.RealProgram):
    """A thousand purges while it serves: no request is lost."""
    NEEDS = Redis.NEEDS

    def test_thousand_cleanups(self):
        port, folder = real.free_port(), self.new_folder()
        env = support.clean_environment({"LD_PRELOAD": support.LIBRARY, "TIDEMARK_OPTIONS": f"dir={folder}"})
        server = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder],
                                  env=env, stdout=subprocess.DEVNULL)
        self.addCleanup(lambda: (server.kill(), server.wait()))
        self.assertTrue(real.wait_for_port(port))
        bench = subprocess.Popen(["redis-benchmark", "-p", str(port), "-q", "-n", "1000000", "-c", "20", "-P", "4", "-t", "incr,lpush"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(lambda: (bench.kill(), bench.wait()))
        under_load = 0
        for _ in range(1000):
            under_load += bench.poll() is None
            done = support.execute([support.TIDEMARK, "cleanup", str(server.pid), "--json"], env=support.clean_environment())
            self.assertEqual((0, b""), (done.status, done.err))
            purge = json.loads(done.out)["purge"]
        self.assertGreater(under_load, 100)
        self.assertGreater(purge["after"]["rss"], 0)
        out, _ = bench.communicate(timeout=support.PATIENCE)
        self.assertEqual(0, bench.returncode, out)
        cli = lambda *words: support.plain(["redis-cli", "-p", str(port), *words]).out.decode().strip()
        self.assertEqual(("1000000", "1000000"), (cli("GET", "counter:__rand_int__"), cli("LLEN", "mylist")))
        cli("SHUTDOWN", "NOSAVE")
        self.assertEqual(0, server.wait(support.PATIENCE))
        (region,) = [name for name in os.listdir(folder) if name.endswith(".tide")]
        self.assertEqual(1000, support.read_report(os.path.join(folder, region), top=1).raw["purge_totals"]["count"])
