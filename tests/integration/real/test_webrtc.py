"""node with @roamhq/wrtc: two RTCPeerConnections in one process on the loopback, data back and forth, closed, again."""
import os

import real
import wrtc


class Webrtc(real.RealProgram):
    NEEDS = ("node", "npm")

    def setUp(self):
        super().setUp()
        try:
            self.env = wrtc.environment(real.CACHE)
        except wrtc.Missing as reason:
            self.skipTest(str(reason))

    def test_calls(self):
        def load(launcher):
            result = launcher.run(wrtc.command(5, 100), env=self.env)
            self.assertEqual(0, result[0], result[2])
            return result
        node = self.of(self.both(load), "node")[0]
        self.assert_sensible(node, allocations=50000, live=100_000)
        modules = {os.path.basename(f["module"] or "") for s in node.sites for f in s["frames"]}
        self.assertIn("wrtc.node", modules)
