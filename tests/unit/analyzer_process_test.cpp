// How a process ended, judged from its region and from what is known of the machine.
#include <gtest/gtest.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <tuple>
#include <utility>

#include "analyzer/model/process_table.h"
#include "tests/unit/support/parsed.h"

namespace tidemark::test {
namespace {

using model::Ending;
using model::Surroundings;

Surroundings alive() {
  Surroundings surroundings = elsewhere();
  surroundings.lives_here = [](int32_t pid, uint64_t start) { return pid == 4711 && start == 99; };
  return surroundings;
}

model::Process process_of(RegionBuilder& builder, const Surroundings& surroundings) {
  return model::read_process(region::Region::parse(builder.used()), surroundings);
}

TEST(AnalyzerProcess, RunningWhileItsPidAndStartTimeAreThere) {
  RegionBuilder builder;
  auto process = process_of(builder, alive());
  EXPECT_EQ(process.ending, Ending::kRunning);
  EXPECT_DOUBLE_EQ(process.duration_s, 200);
  EXPECT_DOUBLE_EQ(process.silent_s, 100);
  EXPECT_EQ(process.command_line(), "server --port 80");
}

TEST(AnalyzerProcess, KilledWhenThePidIsGoneOrAnothers) {
  RegionBuilder builder;
  auto process = process_of(builder, elsewhere());
  EXPECT_EQ(process.ending, Ending::kKilled);
  EXPECT_DOUBLE_EQ(process.duration_s, 100);  // until the last sign of life
  EXPECT_FALSE(process.exit_status);
  EXPECT_FALSE(process.signal);

  builder.header().pid_start = 100;
  EXPECT_EQ(process_of(builder, alive()).ending, Ending::kKilled);
}

TEST(AnalyzerProcess, OtherBootOrNamespaceIsJudgedByTheHeartbeat) {
  for (bool other_boot : {false, true}) {
    RegionBuilder builder;
    Surroundings surroundings = alive();
    if (other_boot) {
      surroundings.boot_id.fill(1);
    } else {
      surroundings.pid_namespace = 8;
    }
    EXPECT_EQ(process_of(builder, surroundings).ending, Ending::kKilled);
    builder.header().heartbeat_realtime_ns = surroundings.now_realtime_ns - 1'000'000'000;
    EXPECT_EQ(process_of(builder, surroundings).ending, Ending::kRunning);
  }
}

TEST(AnalyzerProcess, OfAnotherNamespaceLivesWhileItIsFound) {
  RegionBuilder builder;  // its last sign of life is old
  Surroundings surroundings = elsewhere();
  surroundings.pid_namespace = 8;
  std::optional<bool> lives;
  surroundings.lives_elsewhere = [&](int32_t pid, uint64_t pid_namespace, uint64_t start) {
    EXPECT_EQ(std::tuple(pid, pid_namespace, start), std::tuple(4711, 7u, 99u));
    return lives;
  };
  EXPECT_EQ(process_of(builder, surroundings).ending, Ending::kKilled) << "by the heartbeat: it cannot be looked for";
  lives = true;
  auto process = process_of(builder, surroundings);
  EXPECT_EQ(process.ending, Ending::kRunning);
  EXPECT_DOUBLE_EQ(process.silent_s, 100);

  builder.header().heartbeat_realtime_ns = surroundings.now_realtime_ns;
  lives = false;
  EXPECT_EQ(process_of(builder, surroundings).ending, Ending::kKilled) << "just now";
  surroundings.boot_id.fill(1);
  EXPECT_EQ(process_of(builder, surroundings).ending, Ending::kRunning) << "on another machine";
}

TEST(AnalyzerProcess, ExitedIsRunningWhileItsExitHandlersAre) {
  RegionBuilder builder;
  builder.header().ending = uint32_t(format::Ending::kExited);
  builder.header().exit_status = 3;
  builder.header().ended_realtime_ns = builder.header().started_realtime_ns + 100'500'000'000;
  EXPECT_EQ(process_of(builder, alive()).ending, Ending::kRunning);
  auto process = process_of(builder, elsewhere());
  EXPECT_EQ(process.ending, Ending::kExited);
  EXPECT_EQ(process.exit_status, 3);
  EXPECT_DOUBLE_EQ(process.duration_s, 100.5);
  builder.header().ending_by_launcher = 1;
  EXPECT_EQ(process_of(builder, alive()).ending, Ending::kExited);
}

TEST(AnalyzerProcess, SignaledAndReplaced) {
  RegionBuilder builder;
  builder.header().ending = uint32_t(format::Ending::kSignaled);
  builder.header().signal = 11;
  EXPECT_EQ(process_of(builder, elsewhere()).signal, 11);
  builder.header().ending = uint32_t(format::Ending::kReplaced);
  EXPECT_EQ(process_of(builder, alive()).ending, Ending::kReplaced);
  EXPECT_FALSE(process_of(builder, alive()).signal);
}

TEST(AnalyzerProcess, DiedBeforeTheFirstHeartbeat) {
  RegionBuilder builder;
  builder.header().heartbeat_realtime_ns = builder.header().heartbeat_monotonic_ns = 0;
  auto process = process_of(builder, elsewhere());
  EXPECT_EQ(process.ending, Ending::kKilled);
  EXPECT_DOUBLE_EQ(process.duration_s, 0);
  EXPECT_EQ(process.ended_ns, process.started_ns);
}

TEST(AnalyzerProcess, ASteppedWallClockDoesNotChangeTheDuration) {
  RegionBuilder builder;
  builder.header().heartbeat_realtime_ns += 86'400'000'000'000;
  EXPECT_DOUBLE_EQ(process_of(builder, elsewhere()).duration_s, 100);
}

TEST(AnalyzerProcess, AForkChildIsAsOldAsItselfWhileItsTicksGoOnFromItsParents) {
  RegionBuilder builder;
  builder.header().first_tick = 90 * format::kTicksPerSecond;
  builder.header().started_realtime_ns += 90'000'000'000;
  EXPECT_DOUBLE_EQ(process_of(builder, elsewhere()).duration_s, 10);
  EXPECT_DOUBLE_EQ(process_of(builder, elsewhere()).seconds_since(97 * format::kTicksPerSecond), 3);

  builder.header().ending = uint32_t(format::Ending::kExited);
  builder.header().ended_realtime_ns = builder.header().heartbeat_realtime_ns + 500'000'000;
  EXPECT_DOUBLE_EQ(process_of(builder, elsewhere()).duration_s, 10.5);
  builder.header().heartbeat_realtime_ns = builder.header().heartbeat_monotonic_ns = 0;
  EXPECT_DOUBLE_EQ(process_of(builder, elsewhere()).duration_s, 10.5) << "by the wall clock";
  EXPECT_DOUBLE_EQ(process_of(builder, elsewhere()).seconds_since(97 * format::kTicksPerSecond), 3.5);
}

TEST(AnalyzerProcess, ThisTestIsAlive) {
  Surroundings here = Surroundings::here();
  auto start = model::start_of_process(getpid());
  ASSERT_TRUE(start);
  RegionBuilder builder;
  std::copy(here.boot_id.begin(), here.boot_id.end(), builder.header().boot_id);
  builder.header().pid = getpid();
  builder.header().pid_namespace = here.pid_namespace;
  builder.header().pid_start = *start;
  EXPECT_EQ(process_of(builder, here).ending, Ending::kRunning);
  builder.header().pid_start = *start + 1;
  EXPECT_EQ(process_of(builder, here).ending, Ending::kKilled);
}

TEST(AnalyzerProcess, IsFoundByItsNumberNamespaceAndStart) {
  uint64_t start = *model::start_of_process(getpid()), own = model::own_pid_namespace();
  int32_t pid = getpid();
  model::ProcessTable table;
  EXPECT_EQ(table.lives(pid, own, start), true);
  EXPECT_EQ(table.lives(pid, 0, start), std::nullopt) << "its namespace is not known";
  EXPECT_EQ(table.lives(pid, own, 0), std::nullopt) << "its start is not known";
  // Where not all processes are to be seen, none can be called gone.
  EXPECT_NE(table.lives(pid, own + 1, start), true);
  EXPECT_NE(table.lives(pid, own, start + 1), true);
}

TEST(AnalyzerProcess, AllProcessesAreSeenByRootInTheFirstNamespace) {
  uint64_t start = *model::start_of_process(getpid()), own = model::own_pid_namespace();
  if (geteuid() != 0 || own != 0xEFFFFFFC) GTEST_SKIP() << "not root, or in a container";
  pid_t child = fork();
  if (child == 0) pause(), _exit(0);
  uint64_t began = *model::start_of_process(child);
  model::ProcessTable table;
  EXPECT_EQ(table.lives(child, own, began), true);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(table.lives(child, own, began), false) << "it ended after /proc was read";
  EXPECT_EQ(table.lives(getpid(), own + 1, start), false);
}

// A child that reads its start in a time namespace of its own, as `unshare --time --fork` starts one, tells it, and waits.
void live_in_another_time(const char* offset, int told) {
  int offsets = -1;
  if (unshare(CLONE_NEWTIME) == 0) offsets = open("/proc/self/timens_offsets", O_WRONLY);
  if (write(offsets, offset, strlen(offset)) <= 0) _exit(1);
  pid_t inner = fork();
  if (inner != 0) _exit(0);
  std::pair<pid_t, uint64_t> self{getpid(), *model::start_of_process(getpid())};
  if (write(told, &self, sizeof(self)) > 0) pause();
  _exit(0);
}

TEST(AnalyzerProcess, OfAnotherTimeNamespaceIsKnownByItsOwnStart) {
  for (const char* offset : {"boottime 1000000 0", "boottime 1000 123456789", "boottime -1 999999999"}) {
    int told[2];
    ASSERT_EQ(pipe(told), 0);
    pid_t outer = fork();
    if (outer == 0) live_in_another_time(offset, told[1]);
    close(told[1]);
    std::pair<pid_t, uint64_t> inner;
    bool was_told = read(told[0], &inner, sizeof(inner)) == ssize_t(sizeof(inner));
    close(told[0]);
    waitpid(outer, nullptr, 0);
    if (!was_told) GTEST_SKIP() << "no time namespace can be made here";
    auto [pid, start] = inner;
    EXPECT_TRUE(model::lives_since(pid, start)) << offset;
    EXPECT_TRUE(model::lives_since(pid, *model::start_of_process(pid))) << "it may have gone there after it read it";
    EXPECT_FALSE(model::lives_since(pid, start - 3)) << "the number was another's";
    EXPECT_FALSE(model::lives_since(pid, start + 3));
    EXPECT_TRUE(model::ProcessTable().lives(pid, model::own_pid_namespace(), start).value_or(false));
    kill(pid, SIGKILL);
  }
}

TEST(AnalyzerProcess, AZombieIsDeadUnlessOtherThreadsLive) {
  auto is_zombie = [](pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(file, line);
    return line.find(") Z ") != std::string::npos;
  };
  auto wait_for_zombie = [&](pid_t pid) {
    for (int i = 0; i < 5000 && !is_zombie(pid); ++i) usleep(1000);
    ASSERT_TRUE(is_zombie(pid));
  };

  pid_t with_threads = fork();
  if (with_threads == 0) {
    pthread_t thread;
    pthread_create(
        &thread, nullptr, [](void*) -> void* { return sleep(60), nullptr; }, nullptr);
    syscall(SYS_exit, 0);  // this thread alone, and without unwinding into GoogleTest
  }
  wait_for_zombie(with_threads);
  EXPECT_TRUE(model::start_of_process(with_threads));
  kill(with_threads, SIGKILL);
  waitpid(with_threads, nullptr, 0);
  EXPECT_FALSE(model::start_of_process(with_threads));

  pid_t alone = fork();
  if (alone == 0) _exit(0);
  wait_for_zombie(alone);
  EXPECT_FALSE(model::start_of_process(alone));
  waitpid(alone, nullptr, 0);
}

}  // namespace
}  // namespace tidemark::test
