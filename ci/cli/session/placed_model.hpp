#pragma once
// A model as names and shapes, on one layout: what trace and layout look at. Needs no bytes.

#include <optional>
#include <string>
#include <vector>

#include "ci/cli/session/session.hpp"
#include "core/plan/plan.hpp"

namespace bv::cli {

struct PlacedModel {
  model::Model model;
  Headers headers;          // empty when there is a config alone
  plan::DtypePolicy dtype;  // of the shards
  std::string reference;    // as the user wrote it
  std::string source;       // dir, cache, headers, config, megatron
  parallel::Layout layout;
  std::vector<std::string> notes;
};

/// Opens an HF folder, a headers dump, a config.json alone, or a Megatron folder of ours (which
/// brings its own layout), and checks the layout that the options ask for.
/// Errors: those of open_model, one_layout and plan::check_layout.
[[nodiscard]] Result<PlacedModel> open_placed(const Context& context, const Options& options,
                                              const Library& library);

/// Ranks of each shard key: the coordinates (pp, tp, ep, etp) of every rank of the world.
/// Errors: those of parallel::rank_table.
class RankIndex {
 public:
  static Result<RankIndex> make(const parallel::Layout& layout, const Options& options);
  [[nodiscard]] std::int64_t world() const { return static_cast<std::int64_t>(table_.size()); }
  [[nodiscard]] const std::vector<parallel::Coordinates>& table() const { return table_; }
  [[nodiscard]] std::vector<std::int64_t> ranks_of(const parallel::ShardKey& key) const;

 private:
  std::vector<parallel::Coordinates> table_;
  std::map<parallel::ShardKey, std::vector<std::int64_t>> ranks_;  // vp = 0
};

/// "0 4 8-11": ascending numbers as ranges, at most eight of them.
[[nodiscard]] std::string ranks_text(const std::vector<std::int64_t>& ranks);

}  // namespace bv::cli
