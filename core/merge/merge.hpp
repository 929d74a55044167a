#pragma once
// base + adapter -> a checkpoint of the base's form, streamed: memory is bounded by one window and
// one pair of factors a worker. The output folder appears by rename when it is complete.

#include <filesystem>
#include <string>
#include <vector>

#include "core/convert/stream.hpp"
#include "core/lora/adapter.hpp"
#include "core/move/merger.hpp"

namespace bv::comm {
class Link;
}

namespace bv::lora {

struct MergeOptions {
  int jobs = 1;
  bool verify = true;
  bool overwrite = false;
  bool resume = false;
  bool follow_links = false;
  /// Where base tensors are one and the adapter changes one of them, they become two.
  bool untie = false;
  ProgressSink* progress = nullptr;
  convert::WindowSizes windows = {};
  move::Merger* device = nullptr;  // merges; null: the processor
  /// The processes that write the files together, all calling the same; null: this one alone.
  comm::Link* world = nullptr;
};

struct MergeReport {
  io::Digests digests;  // of the written weight files
  std::int64_t tensors = 0;
  std::int64_t merged = 0;         // that the adapter changes
  std::vector<std::string> notes;  // a sentence each
};

/// The place of the output, before any work: errors of io::check_output_place.
[[nodiscard]] Status check_place_for_merge(const checkpoint::HfModel& base, const Adapter& adapter,
                                           const std::filesystem::path& out,
                                           const MergeOptions& options);

/// The base needs its weights. Errors: those of check_usable; MergeTied without `untie`,
/// MergeDType, MergeNotFinite; those of io::OutputFolder and convert::write_files.
[[nodiscard]] Result<MergeReport> merge_model(const checkpoint::HfModel& base,
                                              const Adapter& adapter,
                                              const std::filesystem::path& out,
                                              const MergeOptions& options);

}  // namespace bv::lora
