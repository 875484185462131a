"""node with @roamhq/wrtc, which npm brings."""
import os
import shutil
import subprocess

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrtc.js")


class Missing(Exception):
    pass


def environment(cache):
    """For node to find the package, installed into the cache when it is not there. Raises Missing."""
    folder = os.path.join(cache, "node")
    modules = os.path.join(folder, "node_modules")
    if not os.path.isdir(os.path.join(modules, "@roamhq/wrtc")):
        os.makedirs(folder, exist_ok=True)
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, "@roamhq/wrtc"], check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise Missing(f"npm cannot install @roamhq/wrtc: {done.stdout[-300:].decode(errors='replace')}")
    return {"NODE_PATH": modules}


def command(calls, messages):
    """calls: "-" for as many as lines of standard input say."""
    return ["node", SCRIPT, str(calls), str(messages)]
