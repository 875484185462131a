// The run's ledger (preload/format/ledger.h) in a memfd that every process of the run can open by path.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "analyzer/launch/descriptor.h"
#include "preload/format/ledger.h"

namespace tidemark::launch {

class LedgerFile {
 public:
  // nullptr when the kernel gives no memfd; errno says why.
  static std::unique_ptr<LedgerFile> create(uint64_t run_id, uint64_t limit_bytes);
  ~LedgerFile();
  LedgerFile(const LedgerFile&) = delete;
  LedgerFile& operator=(const LedgerFile&) = delete;

  uint64_t run_id() const { return ledger_->run_id; }
  uint64_t limit_bytes() const { return ledger_->limit_bytes; }
  // /proc/PID/fd/N of this process, PID as /proc has it: good as long as it lives. The descriptor itself is not passed on by
  // exec.
  std::string path() const;

  uint32_t regions() const { return __atomic_load_n(&ledger_->regions, __ATOMIC_RELAXED); }
  uint32_t refused() const { return __atomic_load_n(&ledger_->refused, __ATOMIC_RELAXED); }
  uint64_t used_bytes() const { return __atomic_load_n(&ledger_->used_bytes, __ATOMIC_RELAXED); }
  // The i-th note, or nullptr when it is not (yet) committed; 0 ≤ i < kRefusalNotes.
  const format::RefusalNote* note(uint32_t i) const;

  // Room that an ended region no longer takes.
  void give_back(uint64_t bytes);

 private:
  LedgerFile(Descriptor file, format::RunLedger* ledger) : file_(std::move(file)), ledger_(ledger) {}

  Descriptor file_;
  format::RunLedger* ledger_;  // shared mapping
};

}  // namespace tidemark::launch
