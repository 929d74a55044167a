// In place of the files of nvcc where there is no nvcc.

#include <filesystem>

#include "core/cuda/cuda.hpp"
#include "core/cuda/meter.hpp"

namespace bv::cuda {

Found look_around() {
  Found out;
  std::error_code ignored;
  out.problem = std::filesystem::exists("/dev/nvidia0", ignored)
                    ? "an NVIDIA device is there, and is not used"
                    : "no NVIDIA device";
  return out;
}

Result<std::unique_ptr<Device>> open_device(int number) {
  return fail(Code::NoGpu, "there is no GPU " + std::to_string(number))
      .pair(text_of(look_around()), "a device that the driver lists")
      .advise("leave --device out; bridge-verify doctor says what this machine can do");
}

Result<std::unique_ptr<Meter>> open_meter(int number) {
  BV_CHECK(open_device(number));
  return fail(Code::NoGpu, "there is no GPU " + std::to_string(number))
      .advise("leave --device out; bridge-verify doctor says what this machine can do");
}

}  // namespace bv::cuda
