// run_command() in a process of its own, with a harmless library in place of the shim: what passes through, and how it ends.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "analyzer/commands/run.h"
#include "tests/unit/support/scratch.h"

namespace tidemark::launch {

using test::Scratch;
namespace {

constexpr const char* kHarmless = "/lib/x86_64-linux-gnu/libm.so.6";

class RunTest : public testing::Test {
 protected:
  // Starts `tidemark run -o SCRATCH words…`, its outputs in files; `prepare` runs in the new process before.
  pid_t start(
      std::vector<std::string> words, const std::function<void()>& prepare = [] {}) {
    unlink((scratch / "out").c_str());  // what an earlier program wrote
    pid_t pid = fork();
    if (pid != 0) return pid;
    for (int s : {SIGINT, SIGQUIT, SIGHUP}) signal(s, SIG_DFL);  // a test runner in the background ignores some
    setenv("TIDEMARK_LIBRARY", kHarmless, 1);
    dup2(open((scratch / "out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
    dup2(open((scratch / "err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
    prepare();
    words.insert(words.begin(), {"run", "-o", scratch / "regions"});
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    _exit(run_command(int(words.size()), argv.data()));
  }

  int end_of(pid_t pid) {
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
  }

  int exit_of(
      std::vector<std::string> words, const std::function<void()>& prepare = [] {}) {
    int status = end_of(start(std::move(words), prepare));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string content(const std::string& name) {
    std::ifstream file(scratch / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // Waits until the program has written `text`.
  bool wait_for(const std::string& text) {
    for (int i = 0; i < 500; ++i, usleep(10'000))
      if (content("out").find(text) != std::string::npos) return true;
    return false;
  }

  Scratch scratch;
};

std::vector<std::string> shell(const std::string& script) { return {"--", "/bin/sh", "-c", script}; }

TEST_F(RunTest, PassesTheExitStatus) {
  for (int status : {0, 1, 42, 126, 255}) EXPECT_EQ(exit_of(shell("exit " + std::to_string(status))), status);
}

TEST_F(RunTest, DiesOfTheProgramsSignal) {
  for (int signal : {SIGTERM, SIGKILL, SIGSEGV, SIGABRT, SIGPIPE, SIGRTMIN + 3}) {
    int status = end_of(start(shell("kill -" + std::to_string(signal) + " $$")));
    EXPECT_TRUE(WIFSIGNALED(status)) << signal;
    EXPECT_EQ(WTERMSIG(status), signal);
  }
}

TEST_F(RunTest, LeavesNoCoreOfItsOwn) {
  auto cores = [] {
    rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &all);
  };
  int status = end_of(start(shell("ulimit -c 0; kill -QUIT $$"), [&] {
    cores();
    (void)!chdir(scratch.path().c_str());
  }));
  EXPECT_EQ(status, SIGQUIT);  // no 0x80
}

TEST_F(RunTest, ForwardsSignals) {
  for (const char* name : {"TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"}) {
    pid_t pid = start(shell(std::string("trap 'echo got; exit 9' ") + name + "; echo ready; while :; do sleep 0.02; done"));
    ASSERT_TRUE(wait_for("ready")) << name;
    int number = 0;
    for (int i = 1; i < 32; ++i)
      if (std::string(sigabbrev_np(i)) == name) number = i;
    kill(pid, number);
    int status = end_of(pid);
    EXPECT_EQ(WEXITSTATUS(status), 9) << name;
    EXPECT_EQ(content("out"), "ready\ngot\n") << name;
  }
}

TEST_F(RunTest, ForwardsAnAlarmThatWasSetBefore) {
  int status = end_of(start(shell("exec sleep 10"), [] { alarm(1); }));
  EXPECT_EQ(status, SIGALRM);
}

TEST_F(RunTest, StopsAndContinuesTheProgram) {
  pid_t pid = start(shell("trap 'echo go' CONT; echo ready; while :; do sleep 0.02; done"));
  ASSERT_TRUE(wait_for("ready"));
  kill(pid, SIGTSTP);  // no job control here: the program stops, its launcher stays awake
  usleep(50'000);
  kill(pid, SIGCONT);
  EXPECT_TRUE(wait_for("go"));
  kill(pid, SIGTERM);
  EXPECT_EQ(end_of(pid), SIGTERM);
}

TEST_F(RunTest, GivesTheOriginalMaskAndDispositions) {
  auto prepare = [] {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_SETMASK, &mask, nullptr);
    for (int s : {SIGCHLD, SIGHUP}) signal(s, SIG_IGN);
    signal(SIGPIPE, SIG_DFL);
  };
  EXPECT_EQ(exit_of({"--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"}, prepare), 0);
  EXPECT_EQ(content("out"), "SigBlk:\t0000000000000200\nSigIgn:\t0000000000010001\n");
}

TEST_F(RunTest, LeaksNoDescriptor) {
  auto closed = [] {
    close(0);
    for (int fd = 3; fd < 100; ++fd) close(fd);
  };
  EXPECT_EQ(exit_of(shell("for i in 0 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$i && echo $i; done; exit 0"), closed), 0);
  EXPECT_EQ(content("out"), "");
}

TEST_F(RunTest, SetsOnlyItsOwnVariables) {
  auto prepare = [] {
    clearenv();
    setenv("A", "b", 1);
    setenv("LD_PRELOAD", "libdl.so.2", 1);
    setenv("TIDEMARK_LIBRARY", kHarmless, 1);
  };
  EXPECT_EQ(exit_of({"--check=5", "--", "/usr/bin/env"}, prepare), 0);
  std::string out = content("out");
  EXPECT_NE(out.find("A=b\n"), std::string::npos);
  EXPECT_NE(out.find(std::string("LD_PRELOAD=") + std::filesystem::canonical(kHarmless).string() + ":libdl.so.2\n"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("TIDEMARK_OPTIONS=dir=" + scratch / "regions" + ":check=5\n"), std::string::npos) << out;
  EXPECT_NE(out.find("TIDEMARK_RUN=v1,"), std::string::npos);
  EXPECT_EQ(out.find("PYTHONMALLOC"), std::string::npos);
}

TEST_F(RunTest, TellsTheProgramItsOwnPid) {
  EXPECT_EQ(exit_of(shell("case $TIDEMARK_RUN in v1,????????????????,$$,/proc/$PPID/fd/*) exit 5;; esac; exit 6")), 5);
  EXPECT_EQ(exit_of(shell("test -r ${TIDEMARK_RUN##*,}")), 0);
}

TEST_F(RunTest, MakesThePrivateFolder) {
  EXPECT_EQ(exit_of({"--", "true"}), 0);
  struct stat info;
  ASSERT_EQ(stat((scratch / "regions").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
}

TEST_F(RunTest, AnswersAsAShellDoes) {
  EXPECT_EQ(exit_of({"no-such-program"}), 127);
  EXPECT_EQ(content("err"), "tidemark: no-such-program: command not found\n");
  EXPECT_EQ(exit_of({scratch.write("text", "#!/bin/sh\n", 0644)}), 126);
  EXPECT_EQ(exit_of({scratch.path()}), 126);
  EXPECT_EQ(exit_of({scratch.write("bad", "#!/no/such/interpreter\n")}), 127);
  EXPECT_EQ(content("err"), "tidemark: " + scratch / "bad" + ": its interpreter /no/such/interpreter does not exist\n");
  EXPECT_EQ(exit_of({"--no-such-option", "true"}), 125);
}

TEST_F(RunTest, SendsNoControlCharactersToATerminal) {
  EXPECT_EQ(exit_of({scratch.write("bad", "#!/no/\x1b[31m\xc2\x9b\x9b\n")}), 127);
  std::string said = content("err");
  EXPECT_TRUE(said.ends_with(": its interpreter /no/\\x1b[31m\\xc2\\x9b\\x9b does not exist\n")) << testing::PrintToString(said);
}

TEST_F(RunTest, RunsUnrecordedWithoutAFolder) {
  EXPECT_EQ(exit_of({"-o", "/proc/nowhere", "--", "/bin/sh", "-c", "echo ran; exit 4"}), 4);
  EXPECT_EQ(content("out"), "ran\n");
  EXPECT_NE(content("err").find("runs unrecorded: the folder /proc/nowhere could not be created"), std::string::npos);
  EXPECT_EQ(exit_of({"--strict", "-o", "/proc/nowhere", "--", "true"}), 125);
}

TEST_F(RunTest, DisabledLeavesNothingBehind) {
  EXPECT_EQ(exit_of({"--enable=0", "--", "/bin/sh", "-c", "test -z \"$TIDEMARK_RUN\" && exit 8"}), 8);
  EXPECT_EQ(content("err"), "");
  EXPECT_FALSE(std::filesystem::exists(scratch / "regions"));
}

TEST_F(RunTest, ClosedStreamsStayClosed) {
  EXPECT_EQ(exit_of(shell("test -e /proc/$$/fd/2 && exit 1; exit 0"), [] { close(2); }), 0);
}

}  // namespace
}  // namespace tidemark::launch
