"""janus: sessions, handles and rooms made and destroyed through its HTTP interface."""
import json
import os
import signal
import urllib.request

import real

PLUGINS = "/usr/lib/x86_64-linux-gnu/janus"
CONFIG = """
general: {{
  configs_folder = "{folder}"
  plugins_folder = "{plugins}/plugins"
  transports_folder = "{plugins}/transports"
  events_folder = "/nonexistent"
  loggers_folder = "/nonexistent"
  interface = "127.0.0.1"
  debug_level = 2
}}
media: {{ rtp_port_range = "36100-36200" }}
plugins: {{ disable = "libjanus_lua.so,libjanus_duktape.so,libjanus_sip.so,libjanus_recordplay.so" }}
transports: {{ disable = "libjanus_rabbitmq.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_websockets.so" }}
events: {{ broadcast = false }}
"""
HTTP = """
general: {{ json = "compact" base_path = "/janus" http = true port = {port} ip = "127.0.0.1" https = false }}
admin: {{ admin_http = false }}
"""


class Janus(real.RealProgram):
    NEEDS = ("janus",)

    def load(self, launcher):
        folder, port = self.new_folder(), real.free_port()
        for name, text in (("janus.jcfg", CONFIG), ("janus.transport.http.jcfg", HTTP)):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text.format(folder=folder, plugins=PLUGINS, port=port))
        server = launcher.start(["janus", "-F", folder, "-C", os.path.join(folder, "janus.jcfg")])
        self.assertTrue(real.wait_for_port(port), launcher.text(server.output)[-2000:])
        self.base = f"http://127.0.0.1:{port}/janus"
        answers = [self.one_session(number) for number in range(100)]
        self.assertEqual(["created", "success", "participants", "destroyed"], answers[0][:4])
        return answers, launcher.stop(server, signal.SIGINT)[0]

    def one_session(self, number):
        session = f"/{self.post('', janus='create')['data']['id']}"
        handle = session + f"/{self.post(session, janus='attach', plugin='janus.plugin.videoroom')['data']['id']}"
        room = 1000 + number
        words = [self.post(handle, janus="message", body={"request": request, "room": room})["plugindata"]["data"]["videoroom"]
                 for request in ("create", "exists", "listparticipants", "destroy")]
        if number % 5:   # some sessions are left for the server to clear away at its end
            words += [self.post(handle, janus="detach")["janus"], self.post(session, janus="destroy")["janus"]]
        return words

    def post(self, path, **body):
        request = urllib.request.Request(self.base + path, json.dumps({**body, "transaction": "t"}).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)

    def test_sessions(self):
        server = self.of(self.both(self.load), "janus")[0]
        self.assert_sensible(server, allocations=20000, live=10000)
