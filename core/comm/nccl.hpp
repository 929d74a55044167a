#pragma once
// Collectives by NCCL, one GPU a rank. The library and the NVIDIA driver are found at run time:
// every build has this, and a machine without them gets an error that says what was looked for.

#include <memory>
#include <string>
#include <vector>

#include "core/comm/carrier.hpp"

namespace bv::comm {

/// Where the loader is asked for them; tests give a library of their own.
struct NcclNames {
  std::vector<std::string> nccl = {"libnccl.so.2", "libnccl.so"};
  std::vector<std::string> driver = {"libcuda.so.1"};
};

/// Carriers on the GPU of the process at that place of its host (device_of). `patience`: how long a
/// collective may take. Errors: NoGpu for a library that is not there, lacks a function or is too
/// old, and where no device is there.
[[nodiscard]] Result<std::shared_ptr<CarrierMaker>> open_nccl(int place, Milliseconds patience,
                                                              const NcclNames& names = {});

}  // namespace bv::comm
