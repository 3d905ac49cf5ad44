# GoogleTest from Debian's source package, built here because Debian's binary has the other C++ library's ABI.
set(NULLBOX_GTEST_DIR /usr/src/googletest CACHE PATH "GoogleTest's sources")
add_library(nullbox_gtest STATIC
  ${NULLBOX_GTEST_DIR}/googletest/src/gtest-all.cc ${NULLBOX_GTEST_DIR}/googletest/src/gtest_main.cc)
target_include_directories(nullbox_gtest SYSTEM PUBLIC ${NULLBOX_GTEST_DIR}/googletest/include)
target_include_directories(nullbox_gtest PRIVATE ${NULLBOX_GTEST_DIR}/googletest)
set_source_files_properties(${NULLBOX_GTEST_DIR}/googletest/src/gtest-all.cc
  ${NULLBOX_GTEST_DIR}/googletest/src/gtest_main.cc PROPERTIES COMPILE_OPTIONS -w)
# Compiled as programs are, for the precompiled headers that the tests share with it.
set_target_properties(nullbox_gtest PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(nullbox_gtest PRIVATE -fPIE)
nullbox_precompiled(nullbox_gtest nullbox_gtest <gtest/gtest.h>)
