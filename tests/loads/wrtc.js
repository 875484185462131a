// Two RTCPeerConnections in one process on the loopback, data back and forth, closed, again. Arguments: calls, messages in each; calls "-":
// as many as each line of standard input says, when it comes.
// Not by way of localDescription: its getter reads the candidates while the package's own thread adds to them, and crashes once in some hundred runs
// (node-webrtc issues 696, 710).
const { RTCPeerConnection } = require('@roamhq/wrtc');
const calls = process.argv[2], messages = Number(process.argv[3]);
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
  const offer = await a.createOffer();
  await a.setLocalDescription(offer);
  await b.setRemoteDescription(offer);
  const answer = await b.createAnswer();
  await b.setLocalDescription(answer);
  await a.setRemoteDescription(answer);
  const count = await echoed;
  channel.close(); a.close(); b.close();
  return `call ${number}: ${count} echoed`;
}
async function* asked() {
  if (calls !== '-') yield calls;
  else yield* require('readline').createInterface({ input: process.stdin });
}
(async () => {
  let number = 0;
  for await (const count of asked())
    for (let i = 0; i < Number(count); i++) console.log(await call(number++));
  process.exit(0);
})().catch(e => { console.error(e); process.exit(1); });
