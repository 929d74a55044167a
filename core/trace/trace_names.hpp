#pragma once
// What a name of a query means: a tensor of either side, a shard, or nothing, with what is near.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/trace/trace.hpp"

namespace bv::trace {

/// An HF tensor of a model: `slot` is its place in Mapping::hf.
struct HfPlace {
  std::uint32_t mapping = 0;
  std::size_t slot = 0;
};
/// nullopt when no mapping has the tensor.
[[nodiscard]] std::optional<HfPlace> find_hf(const model::Model& model, std::string_view name);

/// The targets of a global Megatron name; with `file` those of a local name in that file. Owners
/// first, copies after; empty when there is none.
[[nodiscard]] std::vector<Place> find_megatron(const plan::Plan& plan, std::string_view name,
                                               std::optional<std::size_t> file);

/// The file that "pp0_tp1_ep0_etp0" or its file name means: an index into Plan::files(). Errors:
/// BadValue with shards that exist.
[[nodiscard]] Result<std::size_t> find_file(const plan::Plan& plan, std::string_view shard);

/// Why `word` names no tensor of the side that the query asks for, with names that are near.
[[nodiscard]] Error unknown_name(const plan::Plan& plan, const TraceQuery& query,
                                 const std::string& word);
/// The same for a local name in one shard.
[[nodiscard]] Error unknown_local_name(const plan::ShardFile& file, const std::string& shard,
                                       const std::string& word);

}  // namespace bv::trace
