"""janus: sessions, handles and rooms made and destroyed through its HTTP interface."""
import signal

import real
import janus


class Janus(real.RealProgram):
    NEEDS = ("janus",)

    def load(self, launcher):
        folder, port = self.new_folder(), real.free_port()
        server = launcher.start(janus.command(folder, port))
        self.assertTrue(real.wait_for_port(port), launcher.text(server.output)[-2000:])
        client = janus.Client(port)
        answers = [client.session(1000 + number, leave=number % 5 != 0) for number in range(100)]
        self.assertEqual(["created", "success", "participants", "destroyed"], answers[0][:4])
        return answers, launcher.stop(server, signal.SIGINT)[0]

    def test_sessions(self):
        server = self.of(self.both(self.load), "janus")[0]
        self.assert_sensible(server, allocations=20000, live=10000)
