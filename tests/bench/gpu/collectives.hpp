#pragma once
// Collectives of a world of this machine, by NCCL and by the sockets that carry everything else.

#include <cstddef>
#include <nlohmann/json.hpp>

#include "core/base/result.hpp"

namespace bv::cuda {

/// A row for each collective: seconds of one by sockets and by NCCL, with `ranks` threads as
/// processes and as many GPUs, each giving `bytes`. Without NCCL a row says why. `with_nccl` false:
/// sockets alone, and no times. What arrives is compared. Errors: those of a link.
[[nodiscard]] Result<nlohmann::ordered_json> collective_rows(int ranks, std::size_t bytes,
                                                             bool with_nccl);

}  // namespace bv::cuda
