#include "analyzer/launch/ledger_file.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>

#include "analyzer/launch/process.h"
#include "analyzer/launch/signals.h"

namespace tidemark::launch {

std::unique_ptr<LedgerFile> LedgerFile::create(uint64_t run_id, uint64_t limit_bytes) {
  SurvivesFileSizeLimit scope;
  Descriptor file(memfd_create("tidemark-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file || ftruncate(file.get(), sizeof(format::LauncherLedger)) != 0) return nullptr;
  // Others map it: nobody may cut it under them.
  fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  void* memory = mmap(nullptr, sizeof(format::RunLedger), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* ledger = static_cast<format::RunLedger*>(memory);
  ledger->run_id = run_id;
  ledger->limit_bytes = limit_bytes;
  memcpy(ledger->magic, format::kLedgerMagic, sizeof ledger->magic);
  return std::unique_ptr<LedgerFile>(new LedgerFile(std::move(file), ledger));
}

LedgerFile::~LedgerFile() { munmap(ledger_, sizeof *ledger_); }

std::string LedgerFile::path() const { return "/proc/" + pid_in_proc() + "/fd/" + std::to_string(file_.get()); }

const format::RefusalNote* LedgerFile::note(uint32_t i) const {
  const format::RefusalNote* note = &ledger_->notes[i];
  return __atomic_load_n(&note->reason, __ATOMIC_ACQUIRE) ? note : nullptr;
}

void LedgerFile::give_back(uint64_t bytes) {
  uint64_t used = used_bytes(), left;
  do {
    left = used > bytes ? used - bytes : 0;  // a process that was killed between making its region and counting it
  } while (!__atomic_compare_exchange_n(&ledger_->used_bytes, &used, left, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

}  // namespace tidemark::launch
