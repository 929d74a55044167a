#pragma once
// HF directory -> Megatron shards and back, streaming. The output folder appears by rename when it
// is complete.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "core/exec/plan.hpp"
#include "core/exec/stream.hpp"
#include "core/kinds/values.hpp"

namespace bv::exec {

/// What a Megatron image stores: the HF dtype of each tensor, or one params_dtype for all float
/// tensors.
struct DtypePolicy {
  std::optional<DType> params;  // unset: preserve
};
[[nodiscard]] Result<DtypePolicy> dtype_policy(
    std::string_view text);  // preserve, float32, bfloat16, float16
[[nodiscard]] std::string name(const DtypePolicy& policy);
/// The dtype of a Megatron tensor made of these HF tensors. Mixed inputs are stored in the widest
/// of them.
[[nodiscard]] DType target_dtype(const model::Rule& rule, std::span<const DType> hf,
                                 const DtypePolicy& policy);

struct ConvertOptions {
  DtypePolicy dtype;
  int jobs = 1;
  bool verify = true;
  bool overwrite = false;
  bool resume = false;
  ProgressSink* progress = nullptr;
};

/// A value-changing road that did not keep every bit of one HF tensor.
struct ValueLoss {
  std::string hf;
  std::string megatron;
  const model::Rule* rule = nullptr;
  DType hf_dtype = DType::BF16;
  DType megatron_dtype = DType::BF16;
  kinds::Exactness exactness;
};

struct ReplicaFault {
  std::string tensor;
  std::string first_owner;
  std::string other_owner;
  std::int64_t element = 0;
};

/// Padding rows of a vocabulary that hold values: they have no place in the HF tensor.
struct DroppedRows {
  std::string tensor;
  std::int64_t rows = 0;
  double norm = 0;  // Euclidean, of all their elements
};

struct ConvertReport {
  Digests digests;
  std::uint64_t bytes_written = 0;
  std::int64_t tensors = 0;
  std::vector<ValueLoss> losses;
  std::vector<ReplicaFault> replicas;
  std::vector<DroppedRows> dropped_rows;
};

/// An HF model that was found, read and resolved.
struct HfModel {
  std::filesystem::path folder;
  std::string config_text;
  std::string architecture;
  std::string model_type;
  Headers headers;
  std::string header_digest;
  std::optional<io::Checkpoint> checkpoint;  // absent for a headers dump
  std::optional<Error> incomplete;  // shards that the index names are not there: names alone count
  model::ResolveOptions resolve;
  model::Model model;
};

/// XXH3-128 over name, dtype and shape of every tensor, in name order.
[[nodiscard]] std::string header_digest(const Headers& headers);

/// Every HF tensor whose road through `policy` loses bits (reads only tensors that change dtype or
/// value).
[[nodiscard]] std::vector<ValueLoss> find_losses(const HfModel& source, const DtypePolicy& policy,
                                                 int jobs);

/// Errors: those of Plan::make, OutputExists, DiskFull, ...; the model must be free of name faults
/// and shape faults.
[[nodiscard]] Result<ConvertReport> to_megatron(const HfModel& source,
                                                const kinds::Catalogue& kinds,
                                                const parallel::Layout& layout,
                                                const std::filesystem::path& out,
                                                const ConvertOptions& options);

/// A Megatron folder of ours: manifest, shards, and the HF side that it was made from.
struct MegatronFolder {
  std::filesystem::path folder;
  parallel::Layout layout;
  DtypePolicy dtype;
  std::string family;
  model::ResolveOptions resolve;
  std::string config_text;
  Headers hf_headers;
  std::map<std::string, std::string> hf_file_of;                          // tensor -> file name
  std::map<std::string, std::map<std::string, std::string>> hf_metadata;  // file -> __metadata__
  std::vector<std::string> carried;
  Digests digests;
  model::Model model;
};
/// Errors: NoConfig, RulesInvalid, ShapeMismatch: manifest and shards must agree.
[[nodiscard]] Result<MegatronFolder> open_megatron(const std::filesystem::path& folder,
                                                   const std::vector<model::FamilyPtr>& families);

/// Replicas (tensor-parallel copies, expert-parallel copies, tied copies, elements that a line
/// repeats) are compared first; a difference is reported and nothing is written. Padding rows that
/// are not zero are reported and dropped.
[[nodiscard]] Result<ConvertReport> to_hf(const MegatronFolder& source,
                                          const kinds::Catalogue& kinds,
                                          const std::filesystem::path& out,
                                          const ConvertOptions& options);

}  // namespace bv::exec
