#include "core/cuda/cuda.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"

namespace bv::cuda {

std::string text_of(const Found& found) {
  const std::string build =
      found.compiled ? "compiled for CUDA " + found.toolkit : "this build has no CUDA (no nvcc)";
  if (!found.devices.empty()) {
    return fmt::format("{}; driver for CUDA {}; {}", build, found.driver,
                       join(found.devices, ", "));
  }
  return build + (found.problem.empty() ? "" : "; " + found.problem);
}

}  // namespace bv::cuda
