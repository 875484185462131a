"""Code that a JIT compiler made has the names that it leaves for perf: node's functions, Java's since 17, CPython's since 3.12. Where it leaves none and keeps no
frame pointer, as LuaJIT, the report says so, and the counts are exact all the same."""
import os
import tempfile

import real
import support
import test_cpython

NODE = """
function leaky(n) { const out = []; for (let i = 0; i < n; i++) out.push(Buffer.allocUnsafeSlow(2000 + i % 7)); return out; }
function call_handler(k) { return leaky(k); }
const kept = [];
for (let i = 0; i < 200; i++) kept.push(call_handler(100));
console.log(kept.length);
"""
PYTHON = """
def leaky(n): return [bytes(1000 + i) for i in range(n)]
def call_handler(n): return leaky(n)
kept = [call_handler(100) for _ in range(50)]
"""
JAVA = """
import java.nio.ByteBuffer;
import java.util.ArrayList;
class Leaky {
    static ByteBuffer leaky(int i) { return ByteBuffer.allocateDirect(2000 + i % 7); }
    static ByteBuffer callHandler(int i) { return leaky(i); }
    public static void main(String[] arguments) {
        ArrayList<ByteBuffer> kept = new ArrayList<>();
        for (int i = 0; i < 20000; i++) kept.add(callHandler(i));
        System.out.println(kept.size());
    }
}
"""
LUA = """
local ffi = require 'ffi'
ffi.cdef 'void *malloc(size_t bytes); void free(void *block);'
local kept = {}
local function leaky(i) return ffi.C.malloc(200000 + i % 7) end
for i = 1, 5000 do kept[i] = leaky(i) end
for i = 1, 5000, 2 do ffi.C.free(kept[i]) end
"""


class Jit(real.RealProgram):
    def report_of(self, command, source, suffix=""):
        folder = self.new_folder()
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, suffix=suffix) as script:
            script.write(source)
        with real.Launcher(self.new_folder(), folder) as launcher:
            status, _, err = launcher.run([*command, script.name], cwd=folder)
        self.assertEqual(0, status, err)
        report = self.reports_in(folder)[0]
        self.assertEqual(0, report.coverage["checks_disagreed"])
        for left in (f"/tmp/perf-{report.pid}.map", f"/tmp/jit-{report.pid}.dump"):
            self.addCleanup(lambda path=left: os.path.exists(path) and os.remove(path))
        return report

    def frames(self, report, function):
        """Of the largest stack that has the function, from there outwards."""
        with_it = [s for s in report.sites if any(function in (f["function"] or "") for f in s["frames"])]
        self.assertTrue(with_it, f"{function} is nowhere")
        names = [f["function"] or "" for f in max(with_it, key=lambda s: s["allocated_bytes"])["frames"]]
        return names[next(i for i, name in enumerate(names) if function in name):]

    def test_node(self):
        if not support.has("node"):
            self.skipTest("node is not installed")
        report = self.report_of(["node", "--perf-basic-prof", "--interpreted-frames-native-stack"], NODE)
        names = self.frames(report, "leaky")
        self.assertIn("call_handler", names[1])
        self.assertIn("node::Start(int, char**)", names)   # the whole stack

    def test_java(self):
        if not support.has("javac"):
            self.skipTest("no JDK is installed")
        java = ["java", "-XX:+PreserveFramePointer", "-XX:+UnlockDiagnosticVMOptions", "-XX:+DumpPerfMapAtExit"]
        report = self.report_of(java, JAVA, ".java")
        names = self.frames(report, "Leaky.callHandler(int)")
        self.assertIn("jni_CallStaticVoidMethod", names)
        self.assertIn("start_thread", names[-2:])   # through the compiled and interpreted frames to the thread's start
        buffers = [s for s in report.sites if any(f["function"] == "Unsafe_AllocateMemory0" for f in s["frames"])]
        self.assertGreaterEqual(sum(s["allocated_count"] for s in buffers), 20000)

    def test_luajit(self):
        if not support.has("luajit"):
            self.skipTest("luajit is not installed")
        report = self.report_of(["luajit"], LUA, ".lua")
        blocks = [s for s in report.sites if s["allocated_count"] and 200000 <= s["allocated_bytes"] / s["allocated_count"] < 200007]
        self.assertEqual((5000, 2500), tuple(sum(s[what] for s in blocks) for what in ("allocated_count", "freed_count")))
        traced = [s for s in blocks if s["frames"][0].get("generated")]
        self.assertGreater(sum(s["allocated_count"] for s in traced), 4000)
        text = support.execute([support.TIDEMARK, "report", report.path], env=support.clean_environment()).out.decode()
        self.assertIn("its callers are not known: code without unwind data", text)
        self.assertRegex(text, r"call stacks? begins? in code without unwind data \(generated, mostly\) that keeps no frame pointer, with \d")

    def python(self, minor, how):
        python = test_cpython.pyenv_python(minor)
        if not python:
            self.skipTest(f"no CPython 3.{minor} here")
        names = self.frames(self.report_of([python, "-X", how], PYTHON), "py::leaky")
        python_names = [name.split(":")[2] for name in names if name.startswith("py::")]
        self.assertEqual(["leaky", "call_handler"], python_names[:2])
        self.assertIn("<module>", python_names)
        self.assertIn("main", " ".join(names))

    def test_cpython_perf_map(self):
        self.python(12, "perf")

    def test_cpython_jitdump(self):
        self.python(13, "perf_jit")
