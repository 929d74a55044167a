# Targets of this project: flags, sanitizers, ccache and mold in one place.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

set(BV_SANITIZE "" CACHE STRING "address,undefined or thread")
option(BV_COVERAGE "instrument for lcov" OFF)

find_program(BV_CCACHE ccache)
if(BV_CCACHE)
  # Tests share a precompiled header, which ccache takes with these.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${BV_CCACHE})
endif()
find_program(BV_MOLD mold)

add_library(bv_flags INTERFACE)
target_include_directories(bv_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(bv_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
                                          -Wold-style-cast -Werror)
# What an assertion prints names the file in the tree, not where this machine keeps it.
if(NOT BV_COVERAGE)  # lcov looks for the sources there
  target_compile_options(bv_flags INTERFACE -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
endif()
if(BV_MOLD AND NOT BV_SANITIZE)
  target_link_options(bv_flags INTERFACE -fuse-ld=mold)
endif()
if(BV_SANITIZE)
  target_compile_options(bv_flags INTERFACE -fsanitize=${BV_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(bv_flags INTERFACE -fsanitize=${BV_SANITIZE})
endif()
if(BV_COVERAGE)
  target_compile_options(bv_flags INTERFACE --coverage -fprofile-update=atomic)
  target_link_options(bv_flags INTERFACE --coverage)
endif()

# Files of one target are compiled a dozen at a time: most of their time goes to headers and templates that they share.
# Their unnamed namespaces are then one, so that a helper written twice is an error.
option(BV_UNITY "compile a dozen files of a target at once" ON)
option(BV_UNITY_TESTS "the files of tests, too" ON)
function(bv_unity name)
  if(BV_UNITY)
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 12)
  endif()
endfunction()

# Rooms that read, resolve and print wait for no loop of their own: -O1 there is a quarter less to compile.
# HOT rooms (what touches each element, each box or each layout) keep the flags of the preset.
function(bv_cold name)
  if(CMAKE_CXX_FLAGS_RELEASE MATCHES "-O2")
    target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()

# bv_library(bv_io DEPS bv_base [HOT] [EXTERNAL xxhash]): a static library of every .cpp in this folder.
function(bv_library name)
  cmake_parse_arguments(ARG "HOT" "" "DEPS;EXTERNAL;SOURCES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(NOT sources AND NOT ARG_SOURCES)
    return()
  endif()
  add_library(${name} STATIC ${sources} ${ARG_SOURCES})
  bv_unity(${name})
  if(NOT ARG_HOT)
    bv_cold(${name})
  endif()
  target_link_libraries(${name} PUBLIC bv_flags ${ARG_DEPS} PRIVATE ${ARG_EXTERNAL})
endfunction()

# Headers that nearly every test includes, parsed once. An executable, since its flags must be those of executables.
function(bv_test_headers)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/headers.cpp "int main() {}\n")
  add_executable(bv_test_headers ${CMAKE_CURRENT_BINARY_DIR}/headers.cpp)
  target_link_libraries(bv_test_headers PRIVATE bv_flags GTest::gtest GTest::gmock nlohmann_json::nlohmann_json fmt::fmt)
  bv_test_options(bv_test_headers)
  target_precompile_headers(bv_test_headers PRIVATE <gtest/gtest.h> <gmock/gmock.h> <nlohmann/json.hpp> <fmt/format.h>
                                                    <algorithm> <filesystem> <fstream> <map> <optional> <regex> <set> <sstream>
                                                    <string> <vector>)
endfunction()

# The code under test is optimised, the tests themselves need not be: that is a third of their build.
function(bv_test_options name)
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O0>)
  if(BV_SANITIZE)  # GCC 12 warns of std::regex there
    target_compile_options(${name} PRIVATE -Wno-maybe-uninitialized)
  endif()
  target_compile_definitions(${name} PRIVATE BV_FIXTURES="${PROJECT_SOURCE_DIR}/fixtures" BV_ROOT="${PROJECT_SOURCE_DIR}")
endfunction()

# For executables of tests that are not made by bv_test.
function(bv_test_flags name)
  bv_test_options(${name})
  target_link_libraries(${name} PRIVATE bv_support)
  target_precompile_headers(${name} REUSE_FROM bv_test_headers)
  if(BV_UNITY_TESTS)
    bv_unity(${name})
  endif()
endfunction()

# One test of CTest a suite: short tests cost more to start than to run. Tests of ALONE, a filter of GoogleTest, may skip
# themselves, and are tests of their own, so that CTest shows them as skipped; in a suite a test that skips fails it.
function(bv_discover_suites name)
  cmake_parse_arguments(ARG "" "FILTER;ALONE;LABEL;TIMEOUT" "" ${ARGN})
  set(listed ${CMAKE_CURRENT_BINARY_DIR}/${name}_suites.cmake)
  add_custom_command(TARGET ${name} POST_BUILD BYPRODUCTS ${listed} VERBATIM
    COMMAND ${CMAKE_COMMAND} -D EXECUTABLE=$<TARGET_FILE:${name}> -D FILTER=${ARG_FILTER} -D ALONE=${ARG_ALONE} -D LABEL=${ARG_LABEL}
            -D TIMEOUT=${ARG_TIMEOUT} -D OUTPUT=${listed} -P ${PROJECT_SOURCE_DIR}/ci/cmake/discover_suites.cmake)
  set(included ${CMAKE_CURRENT_BINARY_DIR}/${name}_include.cmake)
  file(WRITE ${included} "if(EXISTS \"${listed}\")\n  include(\"${listed}\")\nelse()\n  add_test(${name}_NOT_BUILT ${name}_NOT_BUILT)\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${included})
endfunction()

# bv_test(bv_io_test FOLDER core/io DEPS bv_io LABEL unit): one executable of every *_test.cpp in tests/FOLDER. Tests that
# take over 5 s are named by SLOW, a filter of GoogleTest; they have the label `slow`, and of the kinds only e2e. Those of
# SKIPS may skip themselves. Unit tests are run by suites, others one by one.
function(bv_test name)
  cmake_parse_arguments(ARG "" "FOLDER;LABEL;TIMEOUT;SLOW;SKIPS" "DEPS;SOURCES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${ARG_FOLDER}/*_test.cpp)
  add_executable(${name} ${sources} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE bv_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  bv_test_flags(${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  include(GoogleTest)
  if(ARG_LABEL STREQUAL "unit")
    bv_discover_suites(${name} FILTER "${ARG_SLOW}" ALONE "${ARG_SKIPS}" LABEL unit TIMEOUT ${ARG_TIMEOUT})
    if(ARG_SLOW)
      gtest_discover_tests(${name} TEST_FILTER "${ARG_SLOW}" TEST_LIST ${name}_slow DISCOVERY_TIMEOUT 60
                           PROPERTIES LABELS slow TIMEOUT 300)
    endif()
    return()
  endif()
  if(NOT ARG_SLOW)
    gtest_discover_tests(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT} DISCOVERY_TIMEOUT 60)
    return()
  endif()
  set(slow slow)
  if(ARG_LABEL STREQUAL "e2e")
    set(slow "e2e;slow")
  endif()
  gtest_discover_tests(${name} TEST_FILTER "-${ARG_SLOW}" TEST_LIST ${name}_quick DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
  gtest_discover_tests(${name} TEST_FILTER "${ARG_SLOW}" TEST_LIST ${name}_slow DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS "${slow}" TIMEOUT 300)
endfunction()
