"""Servers under load from a client that runs under no tool. Compared: CPU a unit of work (the process's own, from before the load to after it), and
the rate. Each server ends by itself or by SIGTERM before its memory is read."""
import os
import re
import signal
import socket
import ssl
import struct
import threading
import time

from measure import Failed, Process, client, wait_for_port
import janus
from ports import free_port
from tools import which
from workloads import InParts


class Server(InParts):
    unit = "request"
    stop_signal = signal.SIGTERM
    good = (0, -signal.SIGTERM)

    def start(self, folder, port):
        """The command."""
        raise NotImplementedError

    def begin(self, tool, env, folder):
        port = free_port()
        process = Process(tool.command(self.start(folder, port), folder), {**env, **tool.environment(folder)}, folder)
        try:
            wait_for_port(port, process)
        except BaseException:
            process.kill()
            raise
        return process, port

    def finish(self, process):
        return process.stop(self.stop_signal, self.good)


class Redis(Server):
    """Every command in turn, pipelined or not."""
    name, needs, pipeline, requests = "redis-P16", ("redis-server", "redis-benchmark"), 16, 400_000

    def start(self, folder, port):
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]

    def load(self, port, part):
        number = self.share(self.requests)
        tests = "set,get,incr,lpush,hset,sadd,zadd"
        started = time.perf_counter()
        client(["redis-benchmark", "-p", str(port), "-q", "-n", str(number), "-r", "10000", "-c", "20", "-P", str(self.pipeline), "-t", tests])
        return number * len(tests.split(",")), time.perf_counter() - started


class RedisSingle(Redis):
    name, pipeline, requests = "redis-P1", 1, 40_000


class Memcached(Server):
    """Sets and gets by four connections that keep 50 requests under way each."""
    name, needs = "memcached", ("memcached",)

    def start(self, folder, port):
        return ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody", "-m", "256", "-t", "1"]

    def load(self, port, part):
        rounds = self.share(1500)
        batches = []
        for start in range(0, 500, 50):
            keys = range(start, start + 50)
            batches.append((b"".join(b"set key%d 0 0 %d\r\n%s\r\n" % (k, 100 + k, b"x" * (100 + k)) for k in keys), b"STORED\r\n", 50))
            batches.append((b"".join(b"get key%d\r\n" % k for k in keys), b"END\r\n", 50))
        done, failed = [], []

        def connection():
            try:
                done.append(self.connection(port, rounds, batches))
            except (Failed, OSError) as error:
                failed.append(error)

        started = time.perf_counter()
        threads = [threading.Thread(target=connection, daemon=True) for _ in range(4)]   # daemon: an interrupted series does not wait for them
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise Failed(f"a memcached connection: {failed[0]}")
        return sum(done), time.perf_counter() - started

    @staticmethod
    def connection(port, rounds, batches):
        count = 0
        with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
            for number in range(rounds):
                request, mark, wanted = batches[number % len(batches)]
                link.sendall(request)
                seen = rest = b""
                found = 0
                while found < wanted:
                    seen = link.recv(1 << 16)
                    if not seen:
                        raise Failed("memcached closed the connection")
                    found += (rest + seen).count(mark)
                    rest = seen[-(len(mark) - 1):]
                count += wanted
        return count


class Nginx(Server):
    """One worker, small files and a page made by a rewrite, under wrk."""
    name, needs = "nginx", ("nginx", "wrk")

    @property
    def parts(self):   # of a second, the least that wrk takes
        return self.size(6)

    def start(self, folder, port):
        os.makedirs(os.path.join(folder, "www"), exist_ok=True)
        with open(os.path.join(folder, "www", "index.html"), "w") as file:
            file.write("<html>" + "hello " * 200 + "</html>")
        os.chmod(folder, 0o755)
        with open(os.path.join(folder, "nginx.conf"), "w") as file:
            file.write(f"""
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{ access_log {folder}/access.log; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; gzip on; gzip_types text/html; gzip_min_length 100;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; }} }}
""")
        return [which("nginx"), "-c", os.path.join(folder, "nginx.conf"), "-p", folder, "-e", os.path.join(folder, "error.log")]

    def load(self, port, part):
        text = client(["wrk", "-t1", "-c32", "-d1s", "-H", "Accept-Encoding: gzip", f"http://127.0.0.1:{port}/"])
        requests = re.search(r"(\d+) requests in ([\d.]+)s", text)
        if not requests or "Socket errors" in text or "Non-2xx" in text:
            raise Failed(text)
        return int(requests.group(1)), float(requests.group(2))


class Janus(Server):
    """A session, a handle in a room of its own, all taken down again, through the HTTP interface: a thread a handle."""
    name, needs, unit, stop_signal = "janus", ("janus",), "session", signal.SIGINT

    def start(self, folder, port):
        return janus.command(folder, port)

    def load(self, port, part):
        caller = janus.Client(port)
        sessions = self.share(1500)
        started = time.perf_counter()
        for number in range(sessions):
            caller.session(1000 + part * sessions + number)
        return sessions, time.perf_counter() - started


class Murmur(Server):
    """A TLS connection that logs in, sees its own state, and leaves: a thread each."""
    name, needs, unit = "murmur", ("murmurd",), "connection"

    def start(self, folder, port):
        config = os.path.join(folder, "murmur.ini")
        with open(config, "w") as file:
            file.write(f"database={folder}/murmur.sqlite\nlogfile=\nhost=127.0.0.1\nport={port}\nusers=500\nbonjour=false\n"
                       "autobanAttempts=0\nsuggestVersion=\nwelcometext=hello\n")
        return [which("murmurd"), "-fg", "-ini", config]

    def load(self, port, part):
        connections = self.share(400)
        started = time.perf_counter()
        for number in range(connections):
            self.connect(port, f"user{part * connections + number}")
        return connections, time.perf_counter() - started

    @staticmethod
    def connect(port, name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        text = lambda field, value: bytes([field << 3 | 2, len(value)]) + value
        packet = lambda kind, body: struct.pack(">HI", kind, len(body)) + body
        with socket.create_connection(("127.0.0.1", port), timeout=60) as plain, context.wrap_socket(plain) as link:
            link.sendall(packet(0, b"\x08\x80\x86\x0c" + text(2, b"bench") + text(3, b"linux") + text(4, b"1")) +
                         packet(2, text(1, name.encode()) + b"\x28\x01"))
            seen = b""
            while True:   # ServerSync: all of our own state has come
                data = link.recv(1 << 16)
                if not data:
                    raise Failed("murmur closed the connection")
                seen += data
                while len(seen) >= 6:
                    kind, length = struct.unpack(">HI", seen[:6])
                    if len(seen) < 6 + length:
                        break
                    seen = seen[6 + length:]
                    if kind == 5:
                        return
                    if kind == 4:
                        raise Failed("murmur rejects the login")


SERVERS = [Redis, RedisSingle, Memcached, Nginx, Janus, Murmur]
