#include "core/base/assert.hpp"

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace bv {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  const std::string text =
      std::string("bridge-verify: BROKEN  assertion ") + expression + " at " + file + ":" +
      std::to_string(line) +
      "\nerror[BV9001]: this is a fault of bridge-verify, not of the checkpoint\n";
  const auto written = ::write(STDERR_FILENO, text.data(), text.size());
  static_cast<void>(written);
  std::_Exit(4);
}

}  // namespace bv
