#pragma once
// The linear layers of a Megatron model that can hold an adapter, and what each rank holds of one
// (docs/reference/semantics.md#lora-shards).

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan/plan.hpp"

namespace bv::lora {

/// What tensor parallelism cuts of the base weight. It decides the class of the adapter:
///   Rows     column-parallel: A [r/T, in], B [out/T, r]     rows of B lie where the weight's do
///   Columns  row-parallel:    A [r, in/T], B [out/T, r]     columns of A lie where the weight's do
///   Nothing  replicated:      A [r/T, in], B [out/T, r]     the adapter is cut although the base
///   is not
enum class BaseCut { Rows, Columns, Nothing };

/// Rows first, first + 1, ... of the HF tensor `hf` of a layer: what a key of canonical LoRA is
/// about.
struct KeyRows {
  std::size_t hf = 0;
  std::int64_t first = 0, rows = 0;
};

/// One linear layer; T is TP, for routed experts ETP.
struct Site {
  std::string module;                   // "decoder.layers.3.self_attention.linear_qkv"
  std::vector<std::uint32_t> mappings;  // of the model: one, or one for each expert of its own
  bool expert = false;                  // cut by ETP, placed by EP
  std::int64_t experts = 0;             // of a grouped layer; 0: a single matrix
  std::int64_t expert_number = -1;      // of a sequential expert; -1: none
  BaseCut cut = BaseCut::Rows;
  bool as_in_hf = false;  // a plain nn.Linear of HF: its adapter is whole on every rank
  bool columns_first = false;                  // the HF tensors are [in, out]
  const layout::BoundRule* rows = nullptr;     // HF rows <-> rows of one shard
  const layout::BoundRule* columns = nullptr;  // HF columns <-> columns of one shard
  std::int64_t out = 0, in = 0;                // of the whole layer
  /// Rows of the layer are copies of others, or zeros: HF has one tensor for both, or none.
  bool repeats = false;
  /// The rows that a key of canonical LoRA is about: "adapter_q" -> those of q_proj, or the first
  /// ones of qkv_proj. Empty where the layer has none (experts, vision, other kinds).
  std::map<std::string, KeyRows, std::less<>> keys;

  /// The mapping that makes expert `e`; that of the layer without experts.
  [[nodiscard]] std::uint32_t mapping_of(std::int64_t e) const;
  /// Rows of each HF tensor.
  [[nodiscard]] std::int64_t rows_of(std::size_t source) const;
};

/// What one shard file holds of a site.
struct SiteShard {
  std::size_t site = 0;
  std::size_t file = 0;  // of the plan
  std::string module;    // local to stage and rank
  std::int64_t t = 0;
  std::int64_t first_expert = -1;  // of a grouped layer
  std::int64_t experts = 0;
  bool replica = false;  // an earlier shard holds the same
};

class SitePlan {
 public:
  /// The plan and the catalogue must outlive it. Errors: those of plan::bind_rule.
  static Result<SitePlan> make(const plan::Plan& plan, const kinds::Catalogue& kinds);

  [[nodiscard]] const plan::Plan& plan() const { return *plan_; }
  [[nodiscard]] const std::vector<Site>& sites() const { return sites_; }
  [[nodiscard]] const std::vector<SiteShard>& shards() const { return shards_; }
  /// Shards of one site, distinct ones and replicas, in the order of the files.
  [[nodiscard]] const std::vector<std::size_t>& shards_of(std::size_t site) const;
  /// The site that a mapping (and expert) of the model belongs to.
  [[nodiscard]] std::optional<std::size_t> site_of(std::uint32_t mapping,
                                                   std::int64_t expert) const;
  /// Ranks that cut a site.
  [[nodiscard]] std::int64_t ways(const Site& site) const;
  [[nodiscard]] std::int64_t expert_ranks() const { return plan_->layout().ep; }

 private:
  struct Lines {
    layout::BoundRule rows;
    layout::BoundRule columns;
  };
  Result<const Lines*> lines_of(const family::Rule& rule, const kinds::Catalogue& kinds);
  Status add_target(std::size_t file, const plan::Target& target, const kinds::Catalogue& kinds);
  std::size_t add_site(std::string module, const plan::Target& target, const Lines& lines,
                       const kinds::Catalogue& kinds);

  const plan::Plan* plan_ = nullptr;
  std::map<const family::Rule*, std::optional<Lines>> lines_;
  std::vector<Site> sites_;
  std::vector<SiteShard> shards_;
  std::vector<std::vector<std::size_t>> shards_of_;
  std::vector<std::size_t> last_shard_;  // by site
  std::map<std::string, std::size_t, std::less<>> by_module_;
  std::map<std::pair<std::uint32_t, std::int64_t>, std::size_t> by_mapping_;
};

}  // namespace bv::lora
