# Tests of `tidemark run`'s parts. Included by tests/CMakeLists.txt; needs GoogleTest.
find_package(GTest REQUIRED)
file(GLOB launch_test_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/launch_*_test.cpp)
add_executable(launch_tests ${launch_test_sources})
target_link_libraries(launch_tests PRIVATE tidemark_analyzer GTest::gtest_main)
include(GoogleTest)
gtest_discover_tests(launch_tests TEST_PREFIX launch. DISCOVERY_TIMEOUT 60)
