"""postgres: a cluster of its own under pgbench: a postmaster that forks a backend for each connection and never execs."""
import glob
import os
import pwd
import re
import shutil
import signal

import real
from real import support


def server_folder():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    return os.path.dirname(found[-1]) if found else None


class Postgres(real.RealProgram):
    def setUp(self):
        self.programs = server_folder()
        if not self.programs or not shutil.which("psql"):
            self.skipTest("postgres is not installed")
        super().setUp()
        self.user = {}
        if os.geteuid() == 0:   # postgres refuses to run as root
            try:
                account = pwd.getpwnam("postgres")
            except KeyError:
                account = pwd.getpwnam("nobody")
            self.user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def new_folder(self):
        folder = super().new_folder()
        if self.user:
            os.chown(folder, self.user["user"], self.user["group"])
        return folder

    def tool(self, name, *words):
        done = support.plain([os.path.join(self.programs, name), *words], cwd="/", **self.user)
        self.assertEqual(0, done.status, done.err)
        return done.out

    def load(self, launcher):
        folder, port = self.new_folder(), real.free_port()
        data = os.path.join(folder, "data")
        self.tool("initdb", "-D", data, "-A", "trust", "-N", "-U", "test", "--no-instructions")
        server = launcher.start([os.path.join(self.programs, "postgres"), "-D", data, "-p", str(port), "-k", folder,
                                 "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"], cwd="/", **self.user)
        self.assertTrue(real.wait_for_port(port), launcher.text(server.errors))
        at = ("-h", "127.0.0.1", "-p", str(port), "-U", "test")
        support.wait_until(lambda: support.plain([os.path.join(self.programs, "pg_isready"), *at]).status == 0, 60)
        self.tool("pgbench", "-i", "-q", *at, "postgres")
        bench = self.tool("pgbench", "-c", "4", "-j", "1", "-t", "150", *at, "postgres")
        done = re.findall(rb"actually processed: (\d+)", bench)
        self.assertEqual([b"600"], done)
        rows = self.tool("psql", "-At", *at, "-c", "select count(*) from pgbench_history", "postgres")
        return done, rows, launcher.stop(server, signal.SIGINT)[0]

    def test_pgbench(self):
        reports = self.of(self.both(self.load), "postgres")
        self.assertGreater(len(reports), 5, "the postmaster and its background processes")
        pids = {r.pid for r in reports}
        (postmaster,) = [r for r in reports if r.process["ppid"] not in pids]
        self.assert_sensible(postmaster, allocations=500)
        for child in reports:
            self.assertEqual([], child.contradictions())
            if child is not postmaster:
                self.assertGreater(child.totals["inherited_bytes"], 0)
        self.assertGreater(max(r.totals["allocated_count"] for r in reports if r is not postmaster), 50)
