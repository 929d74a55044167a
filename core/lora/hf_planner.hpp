#pragma once

// Shards of an adapter of Megatron -> the tensors and the config that PEFT reads.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/lora/adapter_keys.hpp"
#include "core/lora/factor_boxes.hpp"
#include "core/lora/hf_config.hpp"
#include "core/lora/scaled_factors.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/to_megatron.hpp"

namespace bv::lora {

/// An HF tensor that is put together from shards.
struct Gathered {
  std::string key;
  Shape shape;
  std::vector<checkpoint::SourceTensor> sources;
  std::vector<layout::Box> boxes;
};

/// A linear layer of the class, and the HF tensors of a Megatron layer that are its rows.
struct ClassLayer {
  std::string path;                  // "model.layers.0.mlp.gate_up_proj"
  std::string weight;                // the name that its factors go by
  std::vector<std::size_t> sources;  // of the mapping, in the order of its rows
};

/// Its factors, as far as they are put together.
struct JoinedPair {
  Gathered a, b, magnitudes;
  std::int64_t ranks_of_a = 0;  // that have been brought
};
using RowRanges = std::vector<std::pair<std::int64_t, std::int64_t>>;  // [first, last)

/// Plans one folder; `run` once.
class HfPlanner {
 public:
  /// Stacks get the roles that this version of PEFT gives their factors.
  HfPlanner(const MegatronAdapter& adapter, const SitePlan& sites, const SitePlan& of_class,
            const checkpoint::HfModel& base, std::string peft_version)
      : adapter_(adapter),
        sites_(sites),
        class_(of_class),
        base_(base),
        peft_version_(std::move(peft_version)) {}

  Result<HfAdapterFiles> run();

 private:
  const Site& class_site(const AdapterModule& module) const;
  const model::Mapping& class_mapping(const Site& site, std::int64_t expert) const;
  static bool is_packed(const Site& site, const model::Mapping& mapping);
  static std::string parent_of(const std::string& name);

  /// Packed parameters by module, in the order in which it registers them, and those with adapters.
  void find_packed();

  /// "….experts" with one ".base_layer" for each wrapper inside.
  std::string wrapper_of(const std::string& parameter) const;

  // The modules of one layer: one, or one for each of its projections.

  Status add_layer(std::span<const AdapterModule> modules);

  void add_experts(const AdapterModule& module, const Site& site,
                   const std::vector<RecordBlock>& blocks);

  AdapterCut cut_of(const AdapterModule& module, const Site& site) const;

  /// Rows of a layer that are one row in HF are equal, and those that HF does not have are zero:
  /// else no HF adapter says the same. Errors: AdapterNoForm.
  Status check_repeats(const AdapterModule& module, const Site& site) const;

  /// The class's layers that a layer of Megatron is made of.
  std::vector<ClassLayer> class_layers(const Site& site) const;

  /// One pair on a layer of the class from those that have some of its rows each: they share an A
  /// that is equal, else A is stacked and B put beside zeros; scales that differ by a power of two
  /// go into B. Errors: ScaleWrong when they differ otherwise, AdapterNoForm when some of the rows
  /// alone have magnitudes.
  Status add_joined(std::span<const AdapterModule* const> modules, const Site& site,
                    const ClassLayer& layer);
  /// The power of two by which the scale of `one` is that of `first`, when every B of it can take
  /// that in.
  std::optional<int> fold_of(const AdapterModule& one, const AdapterModule& first) const;
  [[nodiscard]] bool takes(const AdapterModule& module, int fold) const;
  Status check_joined(std::span<const AdapterModule* const> modules, const Site& site,
                      const ClassLayer& layer) const;
  bool same_a(std::span<const AdapterModule* const> modules) const;
  /// What one pair brings: its A at rank `at`, its B on its rows there.
  void add_rows(const AdapterModule& module, const Site& site, const ClassLayer& layer,
                std::int64_t at, int fold, RowRanges& brought, JoinedPair& pair) const;

  /// Every HF tensor of the layer with the whole pair, or the pairs that it was put together from
  /// when what was zero between them still is.
  std::vector<RecordBlock> blocks_of(const AdapterModule& module, const Site& site);

  const LayerRecord* record_of(const std::string& name) const;

  bool zeros_are_zero(const AdapterModule& module, const Site& site,
                      const std::vector<RecordBlock>& blocks) const;

  static bool is_zero(const std::vector<layout::Box>& boxes, const io::Checkpoint& file,
                      const io::StoredTensor& tensor);

  static Block block_of(const Site& site, const RecordBlock& record);

  std::string name_of(const AdapterModule& module) const;

  /// Adds what the shards hold of one pair; `expert` -1 for a layer without experts.
  /// B is taken times 2^fold.
  void gather(const AdapterModule& module, const Site& site, Block block, std::int64_t expert,
              Gathered& a, Gathered& b, int fold = 0) const;

  void add_plain(const AdapterModule& module, const Site& site, const RecordBlock& record,
                 const std::string& name, std::int64_t expert);

  static double alpha_of_pair(const AdapterModule& module, std::int64_t rank, int fold = 0);

  /// Adds what the shards hold of the magnitudes of the block's rows, from row `first` on.
  void gather_magnitude(const AdapterModule& module, const Site& site, Block block,
                        std::int64_t first, Gathered& out) const;

  void add_packed(const AdapterModule& module, const Site& site, const RecordBlock& record,
                  const std::string& parameter, std::int64_t expert);

  /// A stack needs every expert.
  Status check_experts() const;

  // The folder.

  [[nodiscard]] std::string own_name(const std::string& name) const;
  void finish_tensors();

  Status finish_config();

  /// The config that came along names these targets with these ranks.
  bool fits(const AdapterConfig& config) const;
  static HfTarget as_named(const AdapterConfig& config, const HfTarget& target);

  /// Why the config that came along (null: unreadable) is not that of these pairs; "" when it is.
  std::string why_anew(const AdapterConfig* config) const;

  /// All that the record lists is there, and nothing else.
  bool same_modules() const;

  const MegatronAdapter& adapter_;
  const SitePlan& sites_;
  const SitePlan& class_;
  const checkpoint::HfModel& base_;
  std::string peft_version_;
  std::shared_ptr<ScaledFactors> scaled_ = std::make_shared<ScaledFactors>();
  std::map<std::string, std::size_t, std::less<>> class_sites_;
  std::map<std::string, std::vector<std::string>> registered_;
  std::vector<std::string> targeted_;
  std::map<std::string, std::set<std::int64_t>> experts_;  // of packed parameters
  std::map<std::string, std::size_t> packed_;              // parameter -> its lora_A in tensors_
  std::vector<Gathered> tensors_;
  std::vector<HfTarget> targets_;
  bool dora_ = false;
  bool verbatim_ = true;
  HfAdapterFiles out_;
};

}  // namespace bv::lora
