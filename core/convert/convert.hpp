#pragma once
// HF directory -> Megatron shards and back, streaming. The output folder appears by rename when it
// is complete.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "core/base/progress.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/convert/replicas.hpp"
#include "core/convert/stream.hpp"
#include "core/convert/value_losses.hpp"
#include "core/kinds/values.hpp"
#include "core/plan/dtype_policy.hpp"
#include "core/plan/plan.hpp"

namespace bv::convert {

struct ConvertOptions {
  plan::DtypePolicy dtype;
  int jobs = 1;
  bool verify = true;
  bool overwrite = false;
  bool resume = false;
  ProgressSink* progress = nullptr;
};

struct ConvertReport {
  io::Digests digests;
  std::uint64_t bytes_written = 0;
  std::int64_t tensors = 0;
  std::vector<ValueLoss> losses;
  std::vector<ReplicaFault> replicas;
  std::vector<DroppedRows> dropped_rows;
};

/// Errors: those of plan::Plan::make, OutputExists, DiskFull, ...; the model must be free of name
/// faults and shape faults.
[[nodiscard]] Result<ConvertReport> to_megatron(const checkpoint::HfModel& source,
                                                const kinds::Catalogue& kinds,
                                                const parallel::Layout& layout,
                                                const std::filesystem::path& out,
                                                const ConvertOptions& options);

/// Replicas (tensor-parallel copies, expert-parallel copies, tied copies, elements that a line
/// repeats) are compared first; a difference is reported and nothing is written. Padding rows that
/// are not zero are reported and dropped.
[[nodiscard]] Result<ConvertReport> to_hf(const checkpoint::MegatronFolder& source,
                                          const kinds::Catalogue& kinds,
                                          const std::filesystem::path& out,
                                          const ConvertOptions& options);

}  // namespace bv::convert
