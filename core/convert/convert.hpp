#pragma once
// HF directory -> Megatron shards and back, streaming. The output folder appears by rename when it
// is complete.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/convert/carry.hpp"
#include "core/convert/fingerprints.hpp"
#include "core/convert/replicas.hpp"
#include "core/convert/stream.hpp"
#include "core/convert/value_losses.hpp"
#include "core/kinds/values.hpp"
#include "core/plan/dtype_policy.hpp"
#include "core/plan/plan.hpp"

namespace bv::comm {
class Link;
}

namespace bv::convert {

/// What is written of a folder that kept a quantised form: that form, byte for byte as in the
/// source or not at all, or the weights that the shards hold.
enum class FormBack { Restored, Plain };

struct ConvertOptions {
  plan::DtypePolicy dtype;
  int jobs = 1;
  bool verify = true;
  bool overwrite = false;
  bool resume = false;
  bool strict = false;          // to HF: what the format of the shards only tolerates is refused
  bool accept_changed = false;  // to HF: the shards were trained since they were written
  FormBack quantised = FormBack::Restored;  // to HF
  bool follow_links = false;                // files that go along may be links out of their folder
  std::filesystem::path rules;  // to Megatron: the file that --rules named; it goes along
  std::optional<checkpoint::MergedAdapter> adapter;  // to Megatron: merged into the source
  std::vector<std::filesystem::path> also_read;      // what the output may not take the place of
  ProgressSink* progress = nullptr;
  WindowSizes windows = {};
  /// Other processes that convert the same: each writes a part of the files into one folder, and
  /// rank 0 puts it under its name. Null: this process writes all.
  comm::Link* world = nullptr;
  move::Executor* device = nullptr;  // moves the bytes; null: the processor
};

/// HF tensors whose parameter is stored in another element type.
struct RecastTensors {
  DType stored = DType::F32;
  DType wanted = DType::F32;
  std::vector<std::string> tensors;  // names of HF tensors, at least one
};

struct ConvertReport {
  io::Digests digests;  // of the written files; empty when nothing was written
  std::int64_t tensors = 0;
  std::vector<std::string> notes;  // what stays behind, a sentence each
  // To HF alone. With a fault nothing is written.
  std::vector<FolderFault> faults;
  std::vector<ReplicaFault> replicas;
  std::vector<DroppedRows> dropped_rows;
  std::vector<RecastTensors> recast;
};

/// The place of the output, before any work: errors of io::check_output_place.
[[nodiscard]] Status check_place_for_megatron(const checkpoint::HfModel& source,
                                              const std::filesystem::path& out,
                                              const ConvertOptions& options);

/// Errors: those of plan::Plan::make, io::OutputFolder, write_files; the model must be free of name
/// faults and shape faults.
[[nodiscard]] Result<ConvertReport> to_megatron(const checkpoint::HfModel& source,
                                                const kinds::Catalogue& kinds,
                                                const parallel::Layout& layout,
                                                const std::filesystem::path& out,
                                                const ConvertOptions& options);

/// Names of tensors come first: what a shard has beyond its rank, and what it lacks. Then every
/// tensor and every carried file is held against its fingerprint, then replicas
/// (tensor-parallel copies, expert-parallel copies, tied copies, elements that a line repeats)
/// against each other; a difference is reported and nothing is written. Padding rows that are not
/// zero are reported and dropped.
[[nodiscard]] Result<ConvertReport> to_hf(const checkpoint::MegatronFolder& source,
                                          const kinds::Catalogue& kinds,
                                          const std::filesystem::path& out,
                                          const ConvertOptions& options);

/// A torch_dist checkpoint that Megatron-Core loads in any layout: OUT/iter_0000000 and the file
/// that names it. Beside the tensors lies checkpoint::kRecordName, which Megatron does not read:
/// what the checkpoint was written with. `layout` is one rank, and says how the vocabulary is
/// padded. `options.resume` has no meaning. Errors: those of to_megatron.
[[nodiscard]] Result<ConvertReport> to_torch_dist(const checkpoint::HfModel& source,
                                                  const kinds::Catalogue& kinds,
                                                  const parallel::Layout& layout,
                                                  const std::filesystem::path& out,
                                                  const ConvertOptions& options);

/// The HF checkpoint that the global tensors of `store` (torch_dist) are, with the names, files and
/// companions of `like`, whose own weights are not read. Element types are those of `like`.
/// A store with tensors of another model is reported, and nothing is written. Errors: those of
/// to_hf; ShapeMismatch when the store is of another model.
[[nodiscard]] Result<ConvertReport> global_to_hf(const checkpoint::HfModel& like,
                                                 const io::TensorStore& store,
                                                 const kinds::Catalogue& kinds,
                                                 const std::filesystem::path& out,
                                                 const ConvertOptions& options);

}  // namespace bv::convert
