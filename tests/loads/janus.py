"""janus on the loopback, and sessions that make and destroy a room through its HTTP interface."""
import json
import os
import urllib.request

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


def command(folder, port):
    """What starts the server; its configuration is written to the folder."""
    for name, text in (("janus.jcfg", CONFIG), ("janus.transport.http.jcfg", HTTP)):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text.format(folder=folder, plugins=PLUGINS, port=port))
    return ["janus", "-F", folder, "-C", os.path.join(folder, "janus.jcfg")]


class Client:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/janus"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(self, path, **body):
        request = urllib.request.Request(self.base + path, json.dumps({**body, "transaction": "t"}).encode())
        with self.opener.open(request, timeout=60) as answer:
            return json.load(answer)

    def session(self, room, leave=True):
        """A session with a room of its own: what the server answered. leave=False: the server clears it away at its end."""
        session = f"/{self.post('', janus='create')['data']['id']}"
        handle = session + f"/{self.post(session, janus='attach', plugin='janus.plugin.videoroom')['data']['id']}"
        words = [self.post(handle, janus="message", body={"request": request, "room": room})["plugindata"]["data"]["videoroom"]
                 for request in ("create", "exists", "listparticipants", "destroy")]
        if leave:
            words += [self.post(handle, janus="detach")["janus"], self.post(session, janus="destroy")["janus"]]
        return words
