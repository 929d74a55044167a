#pragma once
// The tensors of a Megatron folder against the fingerprints that were written with them: which
// changed, and whose contents they hold now.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/checkpoint/megatron_shards.hpp"
#include "core/io/digest.hpp"

namespace bv::convert {

struct ShardTensor {
  std::string file;
  std::string tensor;
  auto operator<=>(const ShardTensor&) const = default;
};

/// A tensor that is not what was written.
struct Change {
  ShardTensor where;
  /// What it holds was written as this one; unset when it was written nowhere, or when it is not
  /// clear where.
  std::optional<ShardTensor> holds;
};

struct Fingerprints {
  io::Digests found;
  std::int64_t tensors = 0;
  std::vector<Change> changes;  // in the order of files and tensors
};

/// Reads every tensor once. Errors: Stopped; IndexDisagrees when a shard changes meanwhile.
[[nodiscard]] Result<Fingerprints> compare_fingerprints(const checkpoint::Shards& shards,
                                                        const plan::Plan& plan,
                                                        const io::Digests& written, int jobs,
                                                        ProgressSink* progress);

/// The same of fingerprints that were made elsewhere: those of shard_tensors, in their order.
[[nodiscard]] Fingerprints compare_digests(const plan::Plan& plan, const io::Digests& written,
                                           std::vector<std::string> digests);
/// Every tensor of the plan's shards, file by file.
[[nodiscard]] std::vector<plan::Plan::Owner> shard_tensors(const plan::Plan& plan);

/// One cause that a person can act on: files or layers that changed places, a file that is a copy
/// of another, a tensor that changed.
struct FolderFault {
  Code code = Code::ContentsChanged;
  std::string subject;  // tensor or file
  std::string title;
  std::string found;
  std::string wanted;
  std::string help;
  std::int64_t cases = 0;  // tensors
};
/// Changes grouped by cause. `accept_changed`: weights were trained, so a tensor that holds
/// something new is no fault; one that holds what another held still is.
[[nodiscard]] std::vector<FolderFault> folder_faults(const Fingerprints& fingerprints,
                                                     bool accept_changed);
/// Tensors that a shard has and its rank has not, and the other way round: a fault for each file
/// and way. None: every tensor of the plan is there, and no other. `holder` is what holds global
/// tensors, whose model --like names; "": the files of the plan.
[[nodiscard]] std::vector<FolderFault> name_faults(const checkpoint::Shards& shards,
                                                   const plan::Plan& plan,
                                                   const std::string& holder = "");
/// Changes that `accept_changed` takes.
[[nodiscard]] std::int64_t trained(const Fingerprints& fingerprints);

}  // namespace bv::convert
