# Tests of `tidemark run`'s parts. Included by tests/CMakeLists.txt; needs GoogleTest, and of the analyzer's libraries libelf only.
find_package(GTest REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBELF REQUIRED IMPORTED_TARGET libelf)
file(GLOB launch_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/analyzer/launch/*.cpp)
file(GLOB launch_test_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/launch_*_test.cpp)
add_executable(launch_tests ${launch_test_sources} ${launch_sources} ${CMAKE_SOURCE_DIR}/analyzer/commands/run.cpp
               ${CMAKE_SOURCE_DIR}/analyzer/output/printable.cpp)
target_link_libraries(launch_tests PRIVATE tidemark_format GTest::gtest_main PkgConfig::LIBELF)
include(GoogleTest)
gtest_discover_tests(launch_tests TEST_PREFIX launch. DISCOVERY_TIMEOUT 60)
