#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "analyzer/launch/closing_note.h"
#include "analyzer/launch/ledger_file.h"
#include "analyzer/launch/process.h"
#include "analyzer/launch/region_folder.h"
#include "tests/unit/support/scratch.h"

namespace tidemark::launch {

using test::Scratch;
namespace {

constexpr uint64_t kRun = 0x1234;
constexpr uint64_t kRegionBytes = 2 << 20;
constexpr int kExitedWith3 = 3 << 8;

// A process that has ended and was buried: its identity is nobody's.
struct Gone {
  pid_t pid;
  uint64_t start;
  Gone() {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
      char c;
      close(ends[1]);
      _exit(read(ends[0], &c, 1) ? 1 : 0);
    }
    start = process_start(pid);
    close(ends[0]);
    close(ends[1]);
    waitpid(pid, nullptr, 0);
  }
};

class RegionTest : public testing::Test {
 protected:
  RegionTest() : ledger(LedgerFile::create(kRun, uint64_t{1} << 30)), folder(scratch.path(), *ledger) {}

  format::Header header_of(pid_t pid, uint64_t start) {
    format::Header header{};
    memcpy(header.magic, format::kMagic, sizeof header.magic);
    header.version = format::kVersion;
    header.header_bytes = sizeof header;
    header.endian = format::kEndianMark;
    header.page_bytes = format::kPageBytes;
    header.region_bytes = kRegionBytes;
    header.booked_bytes = kRegionBytes;
    header.used_pages = 3;
    header.pid = pid;
    header.pid_start = start;
    header.pid_namespace = own_pid_namespace();
    header.run_id = kRun;
    header.started_realtime_ns = 1000;
    header.started_monotonic_ns = 1000;
    return header;
  }

  std::string put(const std::string& name, const format::Header& header) {
    std::string path = scratch.write(name, std::string(reinterpret_cast<const char*>(&header), sizeof header), 0600);
    EXPECT_EQ(truncate(path.c_str(), kRegionBytes), 0);
    return path;
  }

  format::Header get(const std::string& name) {
    format::Header header{};
    std::ifstream(scratch / name, std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
    return header;
  }

  size_t size(const std::string& name) { return std::filesystem::file_size(scratch / name); }

  void search() {
    folder.find_new();
    folder.trim_ended();
  }

  Scratch scratch;
  std::unique_ptr<LedgerFile> ledger;
  RegionFolder folder;
  Gone gone;
};

TEST_F(RegionTest, GivesBackTheTailOfTheDead) {
  put("x.1.tide", header_of(gone.pid, gone.start));
  search();
  EXPECT_EQ(size("x.1.tide"), 3 * format::kPageBytes);
  EXPECT_EQ(folder.count(), 1u);
}

TEST_F(RegionTest, LeavesTheLivingAlone) {
  put("x.1.tide", header_of(getpid(), process_start(getpid())));
  put("x.2.tide", header_of(getpid(), process_start(getpid()) - 1));  // the pid is taken again
  search();
  EXPECT_EQ(size("x.1.tide"), kRegionBytes);
  EXPECT_EQ(size("x.2.tide"), 3 * format::kPageBytes);
}

TEST_F(RegionTest, LeavesOtherNamespacesAlone) {
  format::Header header = header_of(gone.pid, gone.start);
  header.pid_namespace += 1;
  put("x.1.tide", header);
  search();
  EXPECT_EQ(size("x.1.tide"), kRegionBytes);
}

TEST_F(RegionTest, AnImageThatWasReplacedIsGone) {
  format::Header first = header_of(getpid(), process_start(getpid())), second = first;
  first.ending = uint32_t(format::Ending::kReplaced);
  put("x.1.tide", first);
  search();
  EXPECT_EQ(size("x.1.tide"), kRegionBytes) << "execve may still fail";
  second.started_monotonic_ns += 1;
  put("y.1.tide", second);
  search();
  EXPECT_EQ(size("x.1.tide"), 3 * format::kPageBytes);
  EXPECT_EQ(size("y.1.tide"), kRegionBytes);
}

TEST_F(RegionTest, AWallClockThatIsSetBackMakesNoImageOlder) {
  format::Header first = header_of(getpid(), process_start(getpid())), second = first;
  first.ending = uint32_t(format::Ending::kReplaced);
  put("x.1.tide", first);
  second.started_monotonic_ns += 1;
  second.started_realtime_ns -= 500;
  put("y.1.tide", second);
  search();
  EXPECT_EQ(size("x.1.tide"), 3 * format::kPageBytes);
  EXPECT_EQ(size("y.1.tide"), kRegionBytes) << "it is the one that lives";
  EXPECT_EQ(folder.region_of(getpid(), 0)->name(), "y.1.tide");
}

TEST_F(RegionTest, OfImagesThatBeganAtTheSameTimeNoneIsReplaced) {
  format::Header header = header_of(getpid(), process_start(getpid()));
  put("x.1.tide", header);
  header.started_realtime_ns += 1;
  put("y.1.tide", header);
  search();
  EXPECT_EQ(size("x.1.tide"), kRegionBytes);
  EXPECT_EQ(size("y.1.tide"), kRegionBytes);
}

TEST_F(RegionTest, TouchesNoForeignFile) {
  format::Header good = header_of(gone.pid, gone.start), bad = good;
  bad.run_id = kRun + 1;
  put("run.tide", bad);
  bad = good, bad.version += 1;
  put("version.tide", bad);
  bad = good, bad.used_pages = kRegionBytes;
  put("used.tide", bad);
  bad = good, bad.used_pages = 0;
  put("none.tide", bad);
  put("name.txt", good);
  put("elsewhere", good);
  ASSERT_EQ(symlink((scratch / "elsewhere").c_str(), (scratch / "link.tide").c_str()), 0);
  put("twice.tide", good);
  ASSERT_EQ(link((scratch / "twice.tide").c_str(), (scratch / "again").c_str()), 0);
  scratch.write("short.tide", "TIDEMARK", 0600);
  ASSERT_EQ(mkfifo((scratch / "pipe.tide").c_str(), 0600), 0);
  ASSERT_EQ(mkdir((scratch / "folder.tide").c_str(), 0700), 0);
  search();
  EXPECT_EQ(folder.count(), 0u);
  for (const char* name : {"run.tide", "version.tide", "used.tide", "none.tide", "name.txt", "elsewhere", "twice.tide"})
    EXPECT_EQ(size(name), kRegionBytes) << name;
  EXPECT_EQ(size("short.tide"), 8u);
  EXPECT_FALSE(folder.region_of(gone.pid, gone.start));
}

TEST_F(RegionTest, WaitsForAnUnfinishedHeader) {
  std::string path = scratch.write("x.1.tide", "", 0600);
  search();
  ASSERT_EQ(truncate(path.c_str(), kRegionBytes), 0);
  search();
  EXPECT_EQ(folder.count(), 0u);
  put("x.1.tide", header_of(gone.pid, gone.start));
  search();
  EXPECT_EQ(folder.count(), 1u);
}

TEST_F(RegionTest, SweepTrustsTheLedgersCount) {
  put("x.1.tide", header_of(gone.pid, gone.start));
  folder.sweep();
  EXPECT_EQ(folder.count(), 0u) << "the ledger counts no region";
}

TEST_F(RegionTest, NotesEndings) {
  put("x.1.tide", header_of(gone.pid, gone.start));
  search();
  ASSERT_TRUE(folder.region_of(gone.pid, gone.start)->note_ending(kExitedWith3, 77));
  format::Header header = get("x.1.tide");
  EXPECT_EQ(header.ending, uint32_t(format::Ending::kExited));
  EXPECT_EQ(header.exit_status, 3);
  EXPECT_EQ(header.ending_by_launcher, 1u);
  EXPECT_EQ(header.ended_realtime_ns, 77);
  // A signal after a noted exit is what the parent sees.
  ASSERT_TRUE(folder.region_of(gone.pid, gone.start)->note_ending(SIGKILL, 78));
  header = get("x.1.tide");
  EXPECT_EQ(header.ending, uint32_t(format::Ending::kSignaled));
  EXPECT_EQ(header.signal, SIGKILL);
}

TEST_F(RegionTest, KeepsTheProcesssOwnWord) {
  format::Header header = header_of(gone.pid, gone.start);
  header.ending = uint32_t(format::Ending::kExited);
  header.exit_status = 9;
  put("x.1.tide", header);
  header.ending = uint32_t(format::Ending::kReplaced);
  header.started_monotonic_ns -= 1;
  put("w.1.tide", header);
  search();
  ASSERT_TRUE(folder.region_of(gone.pid, gone.start)->note_ending(kExitedWith3, 77));
  EXPECT_EQ(get("x.1.tide").exit_status, 9);
  EXPECT_EQ(get("x.1.tide").ending_by_launcher, 0u);
  EXPECT_EQ(get("w.1.tide").ending, uint32_t(format::Ending::kReplaced));
}

TEST_F(RegionTest, PicksTheLastImage) {
  format::Header header = header_of(gone.pid, gone.start);
  header.ending = uint32_t(format::Ending::kReplaced);
  header.started_monotonic_ns = 5;
  put("replaced.tide", header);
  header.ending = 0;
  header.started_monotonic_ns = 4;
  put("last.tide", header);
  header.pid_start += 1;
  header.started_monotonic_ns = 9;
  put("other.tide", header);
  search();
  EXPECT_EQ(folder.region_of(gone.pid, gone.start)->name(), "last.tide");
  EXPECT_FALSE(folder.region_of(gone.pid + 1, 0));
}

TEST_F(RegionTest, ASnapshotIsNotTheRegion) {
  format::Header header = header_of(gone.pid, gone.start);
  header.ending = uint32_t(format::Ending::kExited);
  put("region.tide", header);
  header.ending = uint32_t(format::Ending::kNone);
  header.snapshot_realtime_ns = 2000;
  put("copy.tide", header);
  search();
  auto found = folder.region_of(gone.pid, gone.start);
  ASSERT_TRUE(found);
  EXPECT_EQ("region.tide", found->name());
}

TEST_F(RegionTest, ASmallerFileStaysAsItIs) {
  std::string path = put("x.1.tide", header_of(gone.pid, gone.start));
  ASSERT_EQ(truncate(path.c_str(), 2 * format::kPageBytes), 0);
  search();
  EXPECT_EQ(size("x.1.tide"), 2 * format::kPageBytes);
}

TEST_F(RegionTest, TheLedgerIsRelievedOfWhatItHasOnly) {
  constexpr uint64_t kUsed = 3 * format::kPageBytes;
  struct {
    uint64_t booked, taken_off;
  } cases[] = {{kRegionBytes, kRegionBytes - kUsed}, {kRegionBytes / 2, kRegionBytes / 2 - kUsed}, {kUsed - 1, 0}, {0, 0},
               {UINT64_MAX, kRegionBytes - kUsed}};
  for (const auto& [booked, taken_off] : cases) {
    format::Header header = header_of(gone.pid, gone.start);
    header.booked_bytes = booked;
    put("x.1.tide", header);
    std::optional<RegionFile> file;
    int here = open(scratch.path().c_str(), O_RDONLY | O_DIRECTORY);
    ASSERT_EQ(RegionFile::open(here, "x.1.tide", kRun, file), RegionFile::Verdict::kOurs);
    close(here);
    EXPECT_EQ(file->give_back_tail(), taken_off) << booked;
    EXPECT_EQ(size("x.1.tide"), kUsed);
    EXPECT_EQ(file->give_back_tail(), 0u) << "nor twice";
  }
}

TEST_F(RegionTest, LedgerGivesBackNoMoreThanIsUsed) {
  int fd = open(ledger->path().c_str(), O_RDWR);
  format::RunLedger content{};
  ASSERT_EQ(pread(fd, &content, sizeof content, 0), ssize_t(sizeof content));
  EXPECT_EQ(memcmp(content.magic, format::kLedgerMagic, 8), 0);
  EXPECT_EQ(content.run_id, kRun);
  EXPECT_EQ(content.limit_bytes, uint64_t{1} << 30);
  uint64_t used = 100;
  ASSERT_EQ(pwrite(fd, &used, sizeof used, offsetof(format::RunLedger, used_bytes)), ssize_t(sizeof used));
  EXPECT_NE(ftruncate(fd, 0), 0) << "sealed";
  close(fd);
  ledger->give_back(60);
  EXPECT_EQ(ledger->used_bytes(), 40u);
  ledger->give_back(60);
  EXPECT_EQ(ledger->used_bytes(), 0u);
}

TEST_F(RegionTest, SaysWhyThereIsNoRegion) {
  int fd = open(ledger->path().c_str(), O_RDWR);
  format::RefusalNote note{};
  note.pid = gone.pid;
  note.error = ENOSPC;
  note.reason = uint32_t(format::Refusal::kAllocateFile);
  strcpy(note.name, "srv");
  memset(note.detail, 'x', sizeof note.detail);  // no zero at its end
  ASSERT_EQ(pwrite(fd, &note, sizeof note, offsetof(format::RunLedger, notes)), ssize_t(sizeof note));
  uint32_t refused = 3;
  ASSERT_EQ(pwrite(fd, &refused, sizeof refused, offsetof(format::RunLedger, refused)), ssize_t(sizeof refused));
  close(fd);
  auto notes = closing_notes({"/bin/srv", ".", gone.pid, 0, 0}, nullptr, *ledger);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_TRUE(notes[0].trouble);
  EXPECT_NE(notes[0].text.find("No space left on device"), std::string::npos);
  EXPECT_NE(notes[0].text.find("--region_size"), std::string::npos);
  EXPECT_NE(notes[1].text.find("2 other processes"), std::string::npos);
}

TEST_F(RegionTest, SaysWhereTheRegionIs) {
  put("my srv.1.tide", header_of(gone.pid, gone.start));
  search();
  auto region = folder.region_of(gone.pid, gone.start);
  auto notes = closing_notes({"srv", ".", gone.pid, SIGKILL, 2}, &*region, *ledger);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_FALSE(notes[0].trouble);
  EXPECT_EQ(notes[0].text,
            "region my srv.1.tide (killed by SIGKILL, 12 KiB, and 1 of other processes beside it); next: tidemark report "
            "'./my srv.1.tide'");
}

TEST(Sizes, AreReadable) {
  EXPECT_EQ(readable_size(4096), "4 KiB");
  EXPECT_EQ(readable_size(5u << 20), "5.0 MiB");
  EXPECT_EQ(readable_size(64u << 20), "64 MiB");
  EXPECT_EQ(readable_size(uint64_t{3} << 29), "1.5 GiB");
}

// A process that read its start in a time namespace of its own, as `unshare --time --fork` starts one. pid 0: that may not be made here.
class Shifted {
 public:
  Shifted() {
    int told[2], hold[2];
    if (pipe(told) != 0 || pipe(hold) != 0) return;
    outer_ = fork();
    if (outer_ == 0) {
      close(told[0]);
      close(hold[1]);
      _exit(live(told[1], hold[0]));
    }
    close(told[1]);
    close(hold[0]);
    Identity inner{};
    if (read(told[0], &inner, sizeof inner) == ssize_t(sizeof inner)) pid = inner.pid, start = inner.start;
    close(told[0]);
    hold_ = hold[1];
  }
  ~Shifted() { end(); }
  void end() {
    if (hold_ >= 0) close(hold_);
    if (outer_ > 0) waitpid(outer_, nullptr, 0);
    hold_ = outer_ = -1;
  }
  pid_t pid = 0;
  uint64_t start = 0;

 private:
  struct Identity {
    pid_t pid;
    uint64_t start;
  };

  // The namespace is that of the children.
  static int live(int told, int hold) {
    if (unshare(CLONE_NEWTIME) != 0) return 1;
    int offsets = open("/proc/self/timens_offsets", O_WRONLY);
    if (write(offsets, "boottime 1000 0", 15) != 15) return 1;
    pid_t inner = fork();
    if (inner == 0) {
      Identity self{getpid(), process_start(getpid())};
      char c;
      _exit(write(told, &self, sizeof self) != ssize_t(sizeof self) || read(hold, &c, 1) != 0);
    }
    close(told);
    close(hold);
    return waitpid(inner, nullptr, 0) != inner;
  }

  pid_t outer_ = -1;
  int hold_ = -1;
};

TEST_F(RegionTest, LeavesTheLivingOfAnotherTimeNamespaceAlone) {
  Shifted shifted;
  if (shifted.pid == 0) GTEST_SKIP() << "no time namespace can be made here";
  ASSERT_NE(process_start(shifted.pid), shifted.start);
  put("x.1.tide", header_of(shifted.pid, shifted.start));
  search();
  EXPECT_EQ(size("x.1.tide"), kRegionBytes);
  shifted.end();
  search();
  EXPECT_EQ(size("x.1.tide"), 3 * format::kPageBytes);
}

TEST(Process, ZombiesAreGone) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  siginfo_t info;
  waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT);
  EXPECT_TRUE(process_is_gone(pid, process_start(pid)));
  waitpid(pid, nullptr, 0);
  EXPECT_TRUE(process_is_gone(pid, 0));
  EXPECT_FALSE(process_is_gone(getpid(), process_start(getpid())));
  EXPECT_FALSE(process_is_gone(0, 0));
}

}  // namespace
}  // namespace tidemark::launch
