# nullbox_library(name sources... [DEPENDS libs...]): a static library `nullbox_<name>`.
# nullbox_program(name sources... DEPENDS libs...): a thin main.cpp on top of libraries.
# nullbox_test(name [PLAIN] sources... DEPENDS libs...): GoogleTest unit tests, run by ctest. PLAIN: sanitizers stand in
#   the way of some of them, or of what they look at, so `make test` runs them without sanitizers too.
# nullbox_fuzz(name source DEPENDS libs...): a libFuzzer target with its corpus in fuzz/corpus/<name>.
include(CMakeParseArguments)

# libFuzzer sees which code of this target an input reaches. Not the tests': that would be a quarter of their build.
function(nullbox_reached target)
  if(NULLBOX_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

function(nullbox_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  add_library(nullbox_${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(nullbox_${name} PUBLIC ${ARG_DEPENDS})
  nullbox_reached(nullbox_${name})
  nullbox_precompiled(nullbox_${name} nullbox_base)
endfunction()

function(nullbox_program name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS})
  # What its start touches stands together (tools/link-order); a name that is not there any more is passed over.
  set(order ${CMAKE_SOURCE_DIR}/image/link_order/${name})
  if(NULLBOX_HARDEN AND EXISTS ${order})
    target_link_options(${name} PRIVATE -Wl,--symbol-ordering-file=${order},--no-warn-symbol-ordering)
    set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${order})
  endif()
endfunction()

function(nullbox_test name)
  if(NULLBOX_TESTS)
    cmake_parse_arguments(ARG "PLAIN" "" "DEPENDS" ${ARGN})
    add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
    target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} nullbox_gtest)
    nullbox_precompiled(${name} nullbox_gtest)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 120)
    if(ARG_PLAIN)
      set_tests_properties(${name} PROPERTIES LABELS plain)
    endif()
  endif()
endfunction()

function(nullbox_fuzz name source)
  if(NULLBOX_FUZZ)
    cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
    add_executable(fuzz_${name} ${source})
    nullbox_reached(fuzz_${name})
    target_link_libraries(fuzz_${name} PRIVATE ${ARG_DEPENDS})
    # Debian's libFuzzer is built with libstdc++, which stands beside our libc++ without meeting it. By its file:
    # the driver turns -lstdc++ into -lc++.
    target_link_libraries(fuzz_${name} PRIVATE -l:libstdc++.so.6)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
