"""node with @roamhq/wrtc: two RTCPeerConnections in one process on the loopback, data back and forth, closed, again."""
import os
import shutil

import real
from real import support

SCRIPT = """
const { RTCPeerConnection } = require('@roamhq/wrtc');
async function call(number) {
  const a = new RTCPeerConnection({}), b = new RTCPeerConnection({});
  a.onicecandidate = e => e.candidate && b.addIceCandidate(e.candidate);
  b.onicecandidate = e => e.candidate && a.addIceCandidate(e.candidate);
  const channel = a.createDataChannel('x');
  const echoed = new Promise((resolve, reject) => {
    let received = 0;
    setTimeout(() => reject(new Error('no echo')), 60000).unref();
    b.ondatachannel = e => { e.channel.onmessage = m => e.channel.send(m.data); };
    channel.onopen = () => { for (let i = 0; i < 100; i++) channel.send('message ' + i); };
    channel.onmessage = () => { if (++received === 100) resolve(received); };
  });
  await a.setLocalDescription(await a.createOffer());
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(await b.createAnswer());
  await a.setRemoteDescription(b.localDescription);
  const count = await echoed;
  channel.close(); a.close(); b.close();
  return `call ${number}: ${count} echoed`;
}
(async () => {
  for (let i = 0; i < 5; i++) console.log(await call(i));
  process.exit(0);
})().catch(e => { console.error(e); process.exit(1); });
"""


class Webrtc(real.RealProgram):
    NEEDS = ("node", "npm")

    def setUp(self):
        super().setUp()
        self.modules = os.path.join(real.CACHE, "node")
        if not os.path.isdir(os.path.join(self.modules, "node_modules/@roamhq/wrtc")):
            os.makedirs(self.modules, exist_ok=True)
            done = support.plain(["npm", "install", "--no-audit", "--no-fund", "--prefix", self.modules, "@roamhq/wrtc"])
            if done.status != 0:
                shutil.rmtree(self.modules, ignore_errors=True)
                self.skipTest(f"npm cannot install @roamhq/wrtc: {done.err[-300:]}")

    def test_calls(self):
        def load(launcher):
            env = {"NODE_PATH": os.path.join(self.modules, "node_modules")}
            result = launcher.run(["node", "-e", SCRIPT], env=env)
            self.assertEqual(0, result[0], result[2])
            return result
        node = self.of(self.both(load), "node")[0]
        self.assert_sensible(node, allocations=50000, live=100_000)
        modules = {os.path.basename(f["module"] or "") for s in node.sites for f in s["frames"]}
        self.assertIn("wrtc.node", modules)
