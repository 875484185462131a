"""sipp against sipp: a few hundred calls on the loopback, both ends recorded."""
import socket

import real


class Sipp(real.RealProgram):
    NEEDS = ("sipp",)
    CALLS = 300

    def load(self, launcher):
        folder = self.new_folder()
        port, other = real.free_port(socket.SOCK_DGRAM), real.free_port(socket.SOCK_DGRAM)
        common = ["-i", "127.0.0.1", "-nostdin", "-m", str(self.CALLS)]
        env = {"TERM": "dumb"}
        server = launcher.start(["sipp", "-sn", "uas", "-p", str(port), *common], cwd=folder, env=env)
        client = launcher.start(["sipp", "-sn", "uac", f"127.0.0.1:{port}", "-p", str(other), "-r", "100", "-d", "50", *common],
                                cwd=folder, env=env)
        results = []
        for end in (client, server):
            status, out, err = launcher.finish(end, 120)
            results.append((status, err.count(b"rror"), self.successful(out)))
        self.assertEqual(str(self.CALLS), results[0][2])
        return results

    @staticmethod
    def successful(out):
        lines = [line for line in out.decode(errors="replace").splitlines() if "Successful call" in line]
        return lines[-1].split("|")[-1].strip() if lines else None

    def test_calls(self):
        reports = self.of(self.both(self.load), "sipp")
        self.assertEqual(2, len(reports))
        for report in reports:
            self.assert_sensible(report, allocations=5000, live=1000)
