// Two RTCPeerConnections in one process on the loopback, data back and forth, closed, again. Arguments: calls, messages in each.
const { RTCPeerConnection } = require('@roamhq/wrtc');
const [calls, messages] = process.argv.slice(2).map(Number);
async function call(number) {
  const a = new RTCPeerConnection({}), b = new RTCPeerConnection({});
  a.onicecandidate = e => e.candidate && b.addIceCandidate(e.candidate);
  b.onicecandidate = e => e.candidate && a.addIceCandidate(e.candidate);
  const channel = a.createDataChannel('x');
  const echoed = new Promise((resolve, reject) => {
    let received = 0;
    setTimeout(() => reject(new Error('no echo')), 60000).unref();
    b.ondatachannel = e => { e.channel.onmessage = m => e.channel.send(m.data); };
    channel.onopen = () => { for (let i = 0; i < messages; i++) channel.send('message ' + i); };
    channel.onmessage = () => { if (++received === messages) resolve(received); };
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
  for (let i = 0; i < calls; i++) console.log(await call(i));
  process.exit(0);
})().catch(e => { console.error(e); process.exit(1); });
