"""bash, forking in a loop: command substitutions, pipelines, background jobs, short programs."""
import real

SCRIPT = """
total=0
for i in $(seq 150); do
  x=$(echo $i | sed s/1/2/)
  total=$((total + x))
  (exit 3); [ $? = 3 ] || echo lost a status
  y=$(echo $(echo $(echo deep $i)))
done
for i in 1 2 3 4; do { sleep 0.3; echo job $i >/dev/null; } & done
wait
echo $total $y
trap 'echo trapped; exit 5' USR1
kill -USR1 $$
"""


class Bash(real.RealProgram):
    NEEDS = ("bash",)

    def test_fork_loop(self):
        reports = self.both(lambda launcher: launcher.run(["bash", "-c", SCRIPT]), {"child_grace": "100"})
        launched = [r for r in self.of(reports, "bash") if r.process["ending"] == "exited" and r.process["exit_status"] == 5]
        self.assertEqual(1, len(launched))
        self.assert_sensible(launched[0], status=5, allocations=1000)
