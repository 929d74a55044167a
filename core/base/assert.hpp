#pragma once
// Assertions are for our own bugs; they are on in every build and end the process (exit 4, Broken).

namespace bv {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}  // namespace bv

#define BV_ASSERT(expression)                           \
  (static_cast<bool>(expression) ? static_cast<void>(0) \
                                 : ::bv::assertion_failed(#expression, __FILE__, __LINE__))
