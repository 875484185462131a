"""git gc on a repository made for it: git forks and starts itself again and again."""
import os

import real
from real import support


class Git(real.RealProgram):
    NEEDS = ("git",)
    ENV = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
           "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "GIT_AUTHOR_DATE": "1700000000 +0000",
           "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_TERMINAL_PROMPT": "0"}

    def make_repository(self):
        folder = self.new_folder()
        stream = []
        for commit in range(300):
            stream.append(f"commit refs/heads/main\ncommitter a <a@b> {1700000000 + commit} +0000\ndata 3\nc{commit % 10}\n")
            for file in range(20):
                text = "".join(f"line {line * file} of {commit if line % 50 == commit % 50 else 0}\n" for line in range(200))
                stream.append(f"M 100644 inline d{file % 5}/f{file}\ndata {len(text)}\n{text}\n")
        self.git(folder, "init", "-q", "-b", "main")
        self.git(folder, "fast-import", "--quiet", stdin="".join(stream).encode())
        return folder

    def git(self, folder, *words, stdin=b""):
        done = support.plain(["git", "-C", folder, *words], env=self.ENV, stdin=stdin)
        self.assertEqual(0, done.status, done.err)
        return done.out

    def load(self, launcher):
        folder = self.make_repository()
        status, out, err = launcher.run(["git", "-C", folder, "gc", "--aggressive", "--prune=now", "--quiet"], env=self.ENV)
        packs = [f for f in os.listdir(os.path.join(folder, ".git/objects/pack")) if f.endswith(".pack")]
        return (status, out, err, len(packs), self.git(folder, "rev-list", "--all", "--count"), self.git(folder, "fsck", "--full"))

    def test_gc(self):
        reports = self.both(self.load)
        self.assert_sensible(self.of(reports, "git")[0], allocations=10000)
        self.assertGreater(len(reports), 1, "git's own children are recorded")
