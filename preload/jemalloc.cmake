# tidemark_jemalloc: the distribution's position-independent jemalloc with all of its public names renamed to tmje_*, so that
# neither load order nor a second jemalloc in the host can stand between the shim and its heap.
#
# Run as a script (cmake -P) this file checks a finished archive: nothing public may remain in it.
if(CMAKE_SCRIPT_MODE_FILE)
  execute_process(COMMAND ${NM} -g --defined-only -P ${ARCHIVE} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" lines "${symbols}")
  foreach(line IN LISTS lines)
    if(line MATCHES "^([^ ]+) [A-Za-z]" AND NOT line MATCHES "^(je_|tmje_)")
      message(FATAL_ERROR "public symbol left in ${ARCHIVE}: ${CMAKE_MATCH_1}")
    endif()
  endforeach()
  return()
endif()

find_library(TIDEMARK_JEMALLOC_PIC NAMES libjemalloc_pic.a REQUIRED)
set(jemalloc_directory ${CMAKE_CURRENT_BINARY_DIR}/jemalloc)
set(jemalloc_archive ${jemalloc_directory}/libtidemark_jemalloc.a)
set(jemalloc_renames ${jemalloc_directory}/renames)

set(renames "")
foreach(name malloc calloc realloc free memalign aligned_alloc posix_memalign valloc malloc_usable_size
             mallocx rallocx xallocx sallocx dallocx sdallocx nallocx mallctl mallctlnametomib mallctlbymib
             malloc_stats_print malloc_conf malloc_conf_2_conf_harder malloc_message secure_getenv readlink mmap munmap sbrk
             pthread_atfork pthread_key_create)
  string(APPEND renames "${name} tmje_${name}\n")
endforeach()
# A helper of libgcc_s that compilers call for processors older than 2008: not worth loading that library into every program.
string(APPEND renames "__popcountdi2 tmje_popcount\n")
# Only its heap profiler, which is off, calls the unwinder and mathematics: no library need be loaded for that.
string(APPEND renames "_Unwind_Backtrace tmje_no_backtrace\n_Unwind_GetIP tmje_no_ip\n")
string(APPEND renames "exp tmje_no_exp\nlog tmje_no_log\nround tmje_no_round\n")
# Mutexes are libc's own, whoever else has functions by these names (jemalloc_glue.c).
foreach(name init lock trylock unlock)
  string(APPEND renames "pthread_mutex_${name} tmje_mutex_${name}\n")
endforeach()
file(CONFIGURE OUTPUT ${jemalloc_renames} CONTENT "${renames}" @ONLY)

# jemalloc_cpp is left out: it defines operator new and would bring a static libstdc++'s way of throwing. malloc_message is
# made weak so that jemalloc_glue.c can define it with a value from the start, je_ehooks_default_zero_impl so that it can do that
# better. jemalloc's constructor only makes it ready earlier than its first use does: without it a process that never allocates
# starts 0.2 ms sooner. The end of a thread (tcache.pic.o) purges by way of the glue.
add_custom_command(
  OUTPUT ${jemalloc_archive}
  COMMAND ${CMAKE_COMMAND} -E copy ${TIDEMARK_JEMALLOC_PIC} ${jemalloc_archive}.new
  COMMAND ${CMAKE_AR} d ${jemalloc_archive}.new jemalloc_cpp.pic.o
  COMMAND ${CMAKE_COMMAND} -E chdir ${jemalloc_directory} ${CMAKE_AR} x ${jemalloc_archive}.new tcache.pic.o
  COMMAND ${CMAKE_OBJCOPY} --redefine-sym je_arena_decay=tmje_decay_at_thread_end ${jemalloc_directory}/tcache.pic.o
  COMMAND ${CMAKE_AR} r ${jemalloc_archive}.new ${jemalloc_directory}/tcache.pic.o
  COMMAND ${CMAKE_OBJCOPY} --weaken-symbol=malloc_message --weaken-symbol=je_ehooks_default_zero_impl
          --remove-section=.init_array --remove-section=.rela.init_array ${jemalloc_archive}.new
  COMMAND ${CMAKE_OBJCOPY} --redefine-syms=${jemalloc_renames} ${jemalloc_archive}.new
  COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D ARCHIVE=${jemalloc_archive}.new -P ${CMAKE_CURRENT_LIST_FILE}
  COMMAND ${CMAKE_COMMAND} -E rename ${jemalloc_archive}.new ${jemalloc_archive}
  DEPENDS ${TIDEMARK_JEMALLOC_PIC} ${jemalloc_renames} ${CMAKE_CURRENT_LIST_FILE}
  COMMENT "Renaming jemalloc's public symbols"
  VERBATIM)
add_custom_target(tidemark_jemalloc_archive DEPENDS ${jemalloc_archive})

add_library(tidemark_jemalloc_glue STATIC ${CMAKE_CURRENT_LIST_DIR}/base/jemalloc_glue.c)
target_include_directories(tidemark_jemalloc_glue PUBLIC ${CMAKE_SOURCE_DIR})
set_target_properties(tidemark_jemalloc_glue PROPERTIES POSITION_INDEPENDENT_CODE ON)

# The archive comes first: it needs the glue, whose definitions then win over its weak ones.
add_library(tidemark_jemalloc INTERFACE)
add_dependencies(tidemark_jemalloc tidemark_jemalloc_archive)
target_link_libraries(tidemark_jemalloc INTERFACE ${jemalloc_archive} tidemark_jemalloc_glue)
foreach(name arena_cache_bin_fill_small arena_choose_hard tsd_tcache_enabled_data_init)   # see jemalloc_glue.c
  target_link_options(tidemark_jemalloc INTERFACE -Wl,--wrap=je_${name})
endforeach()
set_target_properties(tidemark_jemalloc PROPERTIES INTERFACE_LINK_DEPENDS ${jemalloc_archive})  # relink when it was remade
target_include_directories(tidemark_jemalloc INTERFACE ${CMAKE_SOURCE_DIR})
