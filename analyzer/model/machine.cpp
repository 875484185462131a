#include "analyzer/model/machine.h"

#include <fstream>
#include <string>

namespace tidemark::model {

Machine Machine::here() {
  Machine machine;
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (uint64_t kilobytes; file >> key >> kilobytes; std::getline(file, unit)) {
    if (key == "MemTotal:") machine.memory = kilobytes * 1024;
    if (key == "MemAvailable:") machine.available = kilobytes * 1024;
  }
  return machine;
}

}  // namespace tidemark::model
