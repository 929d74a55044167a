# BV_STATIC: fmt, xxhash, zlib and the C++ library inside the command, which then needs glibc alone. For the wheel and the
# bundle of GPU machines, which are copied to where nobody installs anything.
option(BV_STATIC "link every library but glibc into the command" OFF)
if(NOT BV_STATIC)
  find_package(fmt REQUIRED)
  return()
endif()

# Debian has no libfmt.a: its source is the header of that name, compiled once. Others see what they see of the package.
find_path(BV_FMT_INCLUDE fmt/format-inl.h REQUIRED)
file(WRITE ${CMAKE_BINARY_DIR}/fmt/fmt.cpp "\
#include <fmt/format-inl.h>
FMT_BEGIN_NAMESPACE
namespace detail {
template FMT_API auto dragonbox::to_decimal(float) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API locale_ref::locale_ref(const std::locale&);
template FMT_API auto locale_ref::get<std::locale>() const -> std::locale;
template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API void buffer<char>::append(const char*, const char*);
template FMT_API void vformat_to(buffer<char>&, string_view, format_args, locale_ref);
}
FMT_END_NAMESPACE
")
add_library(bv_fmt STATIC ${CMAKE_BINARY_DIR}/fmt/fmt.cpp)
target_include_directories(bv_fmt SYSTEM PUBLIC ${BV_FMT_INCLUDE})
target_compile_definitions(bv_fmt INTERFACE FMT_SHARED)
add_library(fmt::fmt ALIAS bv_fmt)

set(ZLIB_USE_STATIC_LIBS ON)
find_library(BV_XXHASH NAMES libxxhash.a REQUIRED)
target_link_options(bv_flags INTERFACE -static-libstdc++ -static-libgcc)
