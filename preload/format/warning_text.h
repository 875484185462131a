// A warning in words, for the log and for reports.
#pragma once
#include <cstdio>

#include "preload/format/timeline.h"

namespace tidemark::format {

inline constexpr double kMiB = 1 << 20;

inline const char* warning_key(EventKind kind) {
  switch (kind) {
#define X(enumerator, key) \
  case EventKind::enumerator: return #key;
    TIDEMARK_WARNINGS(X)
#undef X
    case EventKind::kNone: break;
  }
  return "unknown";
}

// Cut to `bytes`.
inline void warning_text(const Event& event, char* out, size_t bytes) {
  double a = double(event.a), b = double(event.b);
  switch (EventKind(event.kind)) {
    case EventKind::kRssIncrease:
      snprintf(out, bytes, "RSS has grown by %.1f MiB since the baseline: %.1f MiB, was %.1f MiB", (a - b) / kMiB, a / kMiB, b / kMiB);
      return;
    case EventKind::kExpiredBlocks:
      snprintf(out, bytes, "blocks live for more than %.0f s hold %.1f MiB", b / 1000, a / kMiB);
      return;
    case EventKind::kCgroupLimit:
      snprintf(out, bytes, "at the present slope the cgroup's limit of %.1f MiB will be reached in %.0f s", a / kMiB, b / 1000);
      return;
    case EventKind::kNone: break;
  }
  snprintf(out, bytes, "a warning of a kind this tidemark does not know (%u)", event.kind);
}

}  // namespace tidemark::format
