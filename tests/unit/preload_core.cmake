# The shim's core, linked without preloading: it tracks nothing of this program but what the tests hand to it.
add_executable(preload_core_tests
  unit/preload_fixture.h unit/preload_options_test.cpp unit/preload_stacks_test.cpp unit/preload_step_test.cpp unit/preload_module_reading_test.cpp unit/preload_parts_test.cpp unit/preload_fingerprint_test.cpp unit/preload_places_fixture.h unit/preload_places_test.cpp unit/preload_quick_way_test.cpp unit/preload_path_test.cpp unit/preload_heap_test.cpp unit/preload_counters_test.cpp unit/preload_live_bytes_test.cpp unit/preload_slotless_threads_test.cpp unit/preload_magazines_test.cpp unit/preload_thread_cache_test.cpp unit/preload_arenas_test.cpp
  unit/preload_store_test.cpp unit/preload_ageing_test.cpp unit/preload_series_test.cpp unit/preload_warnings_test.cpp
  unit/preload_mappings_test.cpp unit/preload_ledger_test.cpp unit/preload_budget_test.cpp unit/preload_executable_test.cpp unit/preload_region_files_test.cpp unit/preload_cgroup_room_test.cpp)
target_link_libraries(preload_core_tests PRIVATE tidemark_core GTest::gtest_main Threads::Threads)
target_compile_options(preload_core_tests PRIVATE -O1 -fno-omit-frame-pointer -frtti
  -Wno-volatile)   # loops that must stay loops count by `i = i + 1`
gtest_discover_tests(preload_core_tests TEST_PREFIX preload. PROPERTIES TIMEOUT 60 LABELS fast)
