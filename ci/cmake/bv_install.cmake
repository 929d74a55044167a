# What an installation holds: the command, its forward oracles where they were built, manual page, completions, licence-free docs.
# Used by cmake --install, by cpack -G DEB and by the wheel (pyproject.toml), which takes the component `wheel` alone.
include(GNUInstallDirs)

option(BV_WHEEL "install for a Python wheel: the command inside the package" OFF)

if(BV_WHEEL)
  install(TARGETS bridge_verify RUNTIME DESTINATION bridge_verify/bin COMPONENT wheel)
  return()
endif()

install(TARGETS bridge_verify RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT command)
if(TARGET bv_forward)
  install(FILES $<TARGET_FILE:bv_forward> DESTINATION lib/bridge-verify COMPONENT forward)
endif()

# Debian wants the manual page compressed, without a time.
find_program(BV_GZIP gzip)
set(man ${CMAKE_CURRENT_BINARY_DIR}/bridge-verify.1)
if(BV_GZIP)
  execute_process(COMMAND ${BV_GZIP} -9 -n -c ${PROJECT_SOURCE_DIR}/docs/man/bridge-verify.1 OUTPUT_FILE ${man}.gz)
  set(man ${man}.gz)
else()
  set(man ${PROJECT_SOURCE_DIR}/docs/man/bridge-verify.1)
endif()
install(FILES ${man} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT command)

# The command writes its own completions: they are made from the same tables as its help.
install(CODE "
  set(bv \"$<TARGET_FILE:bridge_verify>\")
  set(share \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/share\")
  foreach(row bash:bash-completion/completions/bridge-verify zsh:zsh/vendor-completions/_bridge-verify
              fish:fish/vendor_completions.d/bridge-verify.fish)
    string(REPLACE \":\" \";\" row \${row})
    list(GET row 0 shell)
    list(GET row 1 file)
    get_filename_component(folder \"\${share}/\${file}\" DIRECTORY)
    file(MAKE_DIRECTORY \"\${folder}\")
    execute_process(COMMAND \"\${bv}\" completion \${shell} OUTPUT_FILE \"\${share}/\${file}\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
" COMPONENT command)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/ci/templates DESTINATION ${CMAKE_INSTALL_DATADIR}/bridge-verify COMPONENT command)

# For projects that gate with CTest: find_package(bridge_verify).
include(CMakePackageConfigHelpers)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/bridge_verify-config-version.cmake COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/bridge_verify-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/bridge_verify-config-version.cmake
        DESTINATION lib/cmake/bridge_verify COMPONENT command)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME bridge-verify)
set(CPACK_PACKAGE_VENDOR "bridge-verify")
set(CPACK_PACKAGE_CONTACT "bridge-verify maintainers <bridge-verify@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "proves checkpoint bridges between HuggingFace and Megatron-Core")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL command)  # forward links LibTorch: a package of its own where somebody builds one
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)
