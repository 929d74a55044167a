#pragma once
// The GPUs of this machine. Nothing of CUDA is touched before one of these is called; a build
// without nvcc has the same functions, and no device.

#include <memory>
#include <string>
#include <vector>

#include "core/cuda/device.hpp"

namespace bv::cuda {

/// What there is, for `doctor` and for the error of --device cuda.
struct Found {
  bool compiled = false;             // with nvcc
  std::string toolkit;               // "13.0", of the build
  std::string driver;                // "13.0"; "" without a driver
  std::vector<std::string> devices;  // "NVIDIA H200, compute 9.0, 143.2 GB"
  std::string problem;               // why there is no device; "" when there is one
};
[[nodiscard]] Found look_around();
/// One line of it.
[[nodiscard]] std::string text_of(const Found& found);

/// Device `number`. Errors: NoGpu with what was found.
[[nodiscard]] Result<std::unique_ptr<Device>> open_device(int number);

}  // namespace bv::cuda
