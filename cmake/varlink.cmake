# nullbox_varlink(target file): puts the text of an interface description into the target's code. For
# src/nulld/io.nullbox.nulld.varlink it makes the header "nulld/io.nullbox.nulld.varlink.h", in which
# nullbox::nulld::kInterfaceDescription is the text.
function(nullbox_varlink target file)
  get_filename_component(source ${file} ABSOLUTE)
  get_filename_component(name ${source} NAME)
  get_filename_component(folder ${source} DIRECTORY)
  get_filename_component(NULLBOX_VARLINK_NAMESPACE ${folder} NAME)
  # Read when CMake runs, so CMake must run again when the text changes.
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  file(READ ${source} NULLBOX_VARLINK_TEXT)
  configure_file(${CMAKE_SOURCE_DIR}/cmake/varlink.h.in
                 ${CMAKE_BINARY_DIR}/generated/${NULLBOX_VARLINK_NAMESPACE}/${name}.h @ONLY)
  target_include_directories(${target} PUBLIC ${CMAKE_BINARY_DIR}/generated)
endfunction()
