# Tests of the analyzer: regions are made up by support/region_builder.h. Included by tests/CMakeLists.txt.
find_package(GTest REQUIRED)
find_package(nlohmann_json REQUIRED)
include(GoogleTest)
file(GLOB analyzer_test_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/analyzer_*_test.cpp)
add_executable(analyzer_tests ${analyzer_test_sources} ${CMAKE_CURRENT_LIST_DIR}/support/region_builder.cpp
               ${CMAKE_CURRENT_LIST_DIR}/support/known_lines.cpp)
target_link_libraries(analyzer_tests PRIVATE tidemark_analyzer nlohmann_json::nlohmann_json GTest::gtest_main)
# The tests look up addresses of this very program.
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/support/known_lines.cpp PROPERTIES COMPILE_OPTIONS "-O1;-g")
target_link_options(analyzer_tests PRIVATE -Wl,--build-id)
gtest_discover_tests(analyzer_tests TEST_PREFIX analyzer. DISCOVERY_TIMEOUT 60)
