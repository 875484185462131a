"""coturn: turnserver, with clients that allocate relays and talk to each other through it, all on the loopback."""
import os
import re
import signal

import real


class Coturn(real.RealProgram):
    NEEDS = ("turnserver", "turnutils_uclient")

    def load(self, launcher):
        folder = self.new_folder()
        port = real.free_port()
        server = launcher.start([
            "turnserver", "-c", "/dev/null", "--no-auth", "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", str(port), "--no-cli",
            "--no-tls", "--no-dtls", "--allow-loopback-peers", "--log-file", "stdout", "--min-port", "35000", "--max-port", "36000",
            "--pidfile", os.path.join(folder, "pid"), "--userdb", os.path.join(folder, "db")])
        self.assertTrue(real.wait_for_port(port), launcher.text(server.output))
        status, out, _ = launcher.run(["turnutils_uclient", "-y", "-m", "2", "-n", "20", "-p", str(port), "127.0.0.1"])
        sums = re.findall(rb"start_mclient: (tot_send_msgs=\d+, tot_recv_msgs=\d+)\n", out)
        lost = re.findall(rb"Total lost packets (\d+)", out)
        self.assertEqual([b"0"], lost, out)
        return status, sums[-1:], lost, launcher.stop(server, signal.SIGTERM)[0]

    def test_relay(self):
        reports = self.both(self.load)
        server = self.of(reports, "turnserver")[0]
        ending = server.process["ending"]
        self.assertIn(ending, ("exited", "signaled"))
        self.assert_sensible(server, ending=ending, status=None, allocations=500, live=10000)
        self.assertTrue(self.of(reports, "turnutils_uclient"))
