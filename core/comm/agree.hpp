#pragma once
// What the processes of a world must have in common before they divide work: what they were told,
// and the bytes that they read.

#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/source_tensor.hpp"
#include "core/comm/link.hpp"

namespace bv {
class ProgressSink;
}

namespace bv::comm {

/// Something that is said or read in full by every process: {"--dtype", "bfloat16"},
/// {"config.json", its fingerprint}.
struct Fact {
  std::string what;
  std::string value;
};
/// All processes call it with theirs; a fact that one of them does not have is "". Errors:
/// RankDiverged naming the first rank that differs from rank 0, and in what.
[[nodiscard]] Status agree_on_facts(Link& world, std::span<const Fact> mine);

/// A tensor, and the ranks that will read of it.
struct ReadTensor {
  checkpoint::SourceTensor tensor;
  std::set<int> ranks;
};

/// One name may be another file on another host. Ranks whose files are the same files (of one
/// running system, device, inode, size and time) have one copy, and nothing is read. Otherwise
/// every tensor that a rank with another copy than rank 0's reads is fingerprinted whole in both,
/// divided among the ranks that share a copy: what is made of it is then made of the copy of
/// rank 0, byte for byte. All call it with the same tensors in the same order. Errors: RankDiverged
/// naming the rank, the tensor and where both copies lie; those of makers of computed tensors.
[[nodiscard]] Status agree_on_contents(Link& world, std::span<const ReadTensor> tensors, int jobs,
                                       ProgressSink* progress = nullptr);

}  // namespace bv::comm
