"""baresip calls itself on the loopback: two accounts, one answers, audio from one file, commands over its control port."""
import json
import os
import socket
import time
import wave

import real

CONFIG = """
poll_method epoll
sip_listen 127.0.0.1:{sip}
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
audio_player aufile,{folder}/play.wav
audio_source aufile,{folder}/tone.wav
audio_alert aufile,{folder}/alert.wav
rtp_ports 36300-36400
net_interface 127.0.0.1
"""
ACCOUNTS = """
<sip:a@127.0.0.1:{sip}>;regint=0;answermode=auto
<sip:b@127.0.0.1:{sip}>;regint=0;answermode=auto
"""


class Control:
    """baresip's ctrl_tcp: JSON in netstrings."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(0.2)
        self.received = b""

    def command(self, name, parameters=""):
        text = json.dumps({"command": name, "params": parameters, "token": "t"})
        self.socket.sendall(f"{len(text)}:{text},".encode())

    def wait_for(self, text, times, seconds=30):
        deadline = time.monotonic() + seconds
        while self.received.count(text) < times and time.monotonic() < deadline:
            try:
                self.received += self.socket.recv(65536)
            except socket.timeout:
                pass
            except ConnectionError:
                break
        return self.received.count(text) >= times


class Baresip(real.RealProgram):
    NEEDS = ("baresip",)

    def load(self, launcher):
        folder, sip, control_port = self.new_folder(), real.free_port(socket.SOCK_DGRAM), real.free_port()
        for name, text in (("config", CONFIG), ("accounts", ACCOUNTS), ("contacts", "")):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text.format(folder=folder, sip=sip, control=control_port))
        with wave.open(os.path.join(folder, "tone.wav"), "wb") as tone:
            tone.setnchannels(1)
            tone.setsampwidth(2)
            tone.setframerate(8000)
            tone.writeframes(bytes(8000 * 2 * 60))
        program = launcher.start(["baresip", "-f", folder, "-t", "90"])
        self.assertTrue(real.wait_for_port(control_port), launcher.text(program.output))
        control = Control(control_port)
        seen = []
        for call in range(1, 4):
            control.command("dial", f"sip:b@127.0.0.1:{sip}")
            seen.append(control.wait_for(b"CALL_ESTABLISHED", call))
            real.settle(0.5)
            control.command("hangup")
            seen.append(control.wait_for(b"CALL_CLOSED", 2 * call))
        control.command("quit")
        self.assertEqual([True] * 6, seen, launcher.text(program.output))
        control.socket.close()
        return seen, launcher.finish(program, 60)[0]

    def test_calls(self):
        program = self.of(self.both(self.load), "baresip")[0]
        self.assert_sensible(program, allocations=2000, live=1)
