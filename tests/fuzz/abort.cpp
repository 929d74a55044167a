// In a fuzz target a failed assertion aborts, so that the fuzzer keeps the input that led to it.
#include <cstdio>
#include <cstdlib>

#include "core/base/assert.hpp"

namespace bv {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "assertion %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace bv
