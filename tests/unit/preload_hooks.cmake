# Tests of the shim's hooks: programs whose every word must be the same with and without it. Included by tests/CMakeLists.txt.
# The programs are built as strangers' programs are: without the project's flags and libraries.
set(hook_victims ${CMAKE_BINARY_DIR}/victims)
set(hook_sources ${CMAKE_SOURCE_DIR}/tests/victims)
find_library(TIDEMARK_HOST_JEMALLOC NAMES libjemalloc.so REQUIRED)
find_package(Threads REQUIRED)

function(hook_victim target source)
  add_executable(${target} ${hook_sources}/${source})
  target_compile_options(${target} PRIVATE -g -O1 -fno-builtin -Wno-alloc-size-larger-than -Wno-use-after-free -Wno-unused-result)
  target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS} Threads::Threads ${ARGN})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${hook_victims})
endfunction()
hook_victim(api_edges api_edges.c)
hook_victim(api_new api_new.cpp)
hook_victim(api_jemalloc api_jemalloc.c ${TIDEMARK_HOST_JEMALLOC})
hook_victim(dropped_arenas dropped_arenas.c ${TIDEMARK_HOST_JEMALLOC})   # of the integration tests, as the next one
hook_victim(arenas_at_work arenas_at_work.c ${TIDEMARK_HOST_JEMALLOC})
hook_victim(api_own_malloc api_own_malloc.cpp)
hook_victim(api_wrapped_malloc api_own_malloc.cpp)
target_compile_definitions(api_wrapped_malloc PRIVATE WRAPS)
hook_victim(api_process api_process.c)
hook_victim(api_loader api_loader.c)
hook_victim(api_namespaces api_namespaces.c)

foreach(part finder found)
  string(TOUPPER ${part} PART)
  add_library(api_${part} MODULE ${hook_sources}/api_loader.c)
  target_compile_definitions(api_${part} PRIVATE ${PART})
  set_target_properties(api_${part} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${hook_victims}/loader)
endforeach()
set_target_properties(api_found PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${hook_victims}/loader/found)
set_target_properties(api_finder PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN/found")
target_link_options(api_finder PRIVATE -Wl,--enable-new-dtags)

add_test(NAME preload_hooks COMMAND /usr/bin/python3 -m unittest preload_hooks_test WORKING_DIRECTORY ${CMAKE_CURRENT_LIST_DIR})
set_tests_properties(preload_hooks PROPERTIES
  LABELS fast TIMEOUT 300
  ENVIRONMENT "TIDEMARK_LIB=${CMAKE_BINARY_DIR}/lib/libtidemark.so;VICTIMS_DIR=${hook_victims};PYTHONDONTWRITEBYTECODE=1")
