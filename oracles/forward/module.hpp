#pragma once
// The forward oracles as a module: what crosses the boundary of bv_forward.so.

#include <array>
#include <cstddef>

#include "oracles/forward/forward.hpp"

namespace bv::oracle::forward {

/// Sizes of everything that crosses, and a number for changes that sizes do not show.
inline constexpr std::array<std::size_t, 8> kAbi = {6,
                                                    sizeof(ModelFacts),
                                                    sizeof(Tensor),
                                                    sizeof(RankTensors),
                                                    sizeof(Inputs),
                                                    sizeof(Outputs),
                                                    sizeof(Result<Outputs>),
                                                    sizeof(Functions)};

/// What bv_forward_entry points to, valid while the module is loaded. Read `abi` first: the rest
/// is valid only when it equals kAbi.
struct Module {
  std::array<std::size_t, kAbi.size()> abi = kAbi;
  Functions functions;
};

}  // namespace bv::oracle::forward

/// The one symbol that the command looks up in bv_forward.so: a const forward::Module*.
extern "C" __attribute__((visibility("default"))) const void* bv_forward_entry();
