#include "core/cuda/cuda.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"

namespace bv::cuda {

std::string text_of(const Found& found) {
  if (!found.compiled) {
    return "not used: this build has no CUDA (no nvcc)";
  }
  if (!found.devices.empty()) {
    return fmt::format("{}, with --device cuda; this build is for CUDA {}, the driver for CUDA {}",
                       join(found.devices, ", "), found.toolkit, found.driver);
  }
  return fmt::format("none here{}; this build could use one (CUDA {})",
                     found.problem.empty() ? "" : ": " + found.problem, found.toolkit);
}

}  // namespace bv::cuda
