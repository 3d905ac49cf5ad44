# The headers that most files include, parsed once and not four hundred times: once for libraries, with nullbox_base, and
# once for tests, with GoogleTest, because a compiler takes precompiled headers only under the flags (position
# independence) that they were made with. The release preset does without, so each file still says all that it needs.
set(NULLBOX_PRECOMPILED
  <algorithm> <array> <cerrno> <chrono> <csignal> <cstdint> <cstring> <deque> <format> <functional> <map>
  <memory> <optional> <set> <span> <string> <string_view> <vector> <boost/json/array.hpp> <boost/json/object.hpp>
  <boost/json/serialize.hpp>)
foreach(header file log loop text)
  list(APPEND NULLBOX_PRECOMPILED ${CMAKE_SOURCE_DIR}/src/base/${header}.h)
endforeach()

# nullbox_precompiled(target owner): target compiles with owner's precompiled headers, if this preset has any.
function(nullbox_precompiled target owner)
  if(NOT NULLBOX_HARDEN)
    if(target STREQUAL owner)
      target_precompile_headers(${target} PRIVATE ${NULLBOX_PRECOMPILED} ${ARGN})
    else()
      target_precompile_headers(${target} REUSE_FROM ${owner})
    endif()
  endif()
endfunction()
