#pragma once
// The forward oracles, which need LibTorch and are loaded when a claim asks them.

#include <filesystem>
#include <string>
#include <vector>

#include "oracles/forward/module.hpp"

namespace bv::cli {

/// Beside the command, and in the library folder of an install.
[[nodiscard]] std::vector<std::filesystem::path> forward_module_places();

/// bv_forward.so; without functions the reason why it cannot be loaded. Loaded once, kept.
struct ForwardModule {
  const oracle::forward::Functions* functions = nullptr;
  std::string reason;
};
[[nodiscard]] ForwardModule load_forward();

}  // namespace bv::cli
