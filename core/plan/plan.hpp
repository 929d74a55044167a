#pragma once
// A model on one parallel layout: which tensors each shard file holds, and from which boxes each is
// made.
//
// Example: one layer with 2 query groups, 2 query heads a group, head size 2 and hidden size 3 on
// TP=2. files() are pp0_tp0_ep0_etp0 and pp0_tp1_ep0_etp0; both list the target
//   {name "decoder.layers.0.self_attention.linear_qkv.weight", t = 0 or 1, expert = -1}
// and shard() of the second has shape [8, 3] and three boxes over mapping.hf = q [8, 3], k [4, 3],
// v [4, 3] (offsets and axes in elements):
//   q: source 0, offset 12 -> 0,  axes {(12, 1, 1)}
//   k: source 1, offset  6 -> 12, axes {(6, 1, 1)}
//   v: source 2, offset  6 -> 18, axes {(6, 1, 1)}
// owners()[0] are {file 0, target 0} and {file 1, target 0}: both hold a part of q, k and v.

#include <memory>
#include <span>

#include "core/kinds/catalogue.hpp"
#include "core/layout/box.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"
#include "core/plan/bind_rule.hpp"

namespace bv::plan {

/// One Megatron tensor of one shard file. The grid coordinate names which part of the mapping it
/// holds.
struct Target {
  std::string name;           // local to stage and expert rank, as named_parameters() gives it
  std::string global_name;    // with the layer and expert numbers of the whole model
  std::uint32_t mapping = 0;  // index into Model::mappings
  std::int64_t t = 0;         // rank in the group that cuts this parameter
  std::int64_t expert = -1;   // global expert number of expert parameters, -1 otherwise
  bool copy = false;          // a second owner: tied output layer, embedding on the MTP stage
};

/// What one rank of the smallest world holds, one virtual stage a file.
struct ShardFile {
  parallel::ShardKey key;
  std::string name;             // "pp0_tp1_ep0_etp0.safetensors"
  std::vector<Target> targets;  // ascending local name
};

/// Sizes of the padded vocabulary for one layout.
struct Vocabulary {
  std::int64_t rows = 0;
  std::int64_t padded_rows = 0;
};

/// A rule that a plan binds a second time, with other sizes: for a factor of an adapter.
struct Factor {
  const family::Rule* rule = nullptr;
  Rebinding rebinding;
};

class Plan {
 public:
  /// Binds every rule and places every parameter. The model and the catalogue must outlive the
  /// plan. Errors: IndivisibleDim, LayerOnNoStage, Conflict: the layout is illegal for this model;
  /// SizeOutOfBounds above kTargetsMax; DuplicateClaim when two rules make one name. A plan that is
  /// returned has every parameter of every mapping at least once. `factors` are bound as well:
  /// bound() and shard() give them by their rebinding.
  static Result<Plan> make(const model::Model& model, const kinds::Catalogue& kinds,
                           const parallel::Layout& layout, std::span<const Factor> factors = {});

  [[nodiscard]] const model::Model& model() const { return *model_; }
  [[nodiscard]] const parallel::Layout& layout() const { return layout_; }
  [[nodiscard]] const std::vector<ShardFile>& files() const { return files_; }
  [[nodiscard]] const std::vector<parallel::StageContents>& stages() const { return stages_; }
  /// `rebinding`: none, or one that the plan was made with.
  [[nodiscard]] const layout::BoundRule& bound(const model::Mapping& mapping,
                                               const Rebinding& rebinding = {}) const;
  /// Rows of the whole vocabulary with its padding; 0 for a model without one.
  [[nodiscard]] std::int64_t padded_vocabulary() const { return padded_vocabulary_; }

  /// Shape and boxes of one target of files(), in elements; Box::source indexes mapping.hf. The
  /// boxes tile the shape: padding is a box without a source.
  [[nodiscard]] layout::Shard shard(const Target& target, const Rebinding& rebinding = {}) const;
  /// Expected shape of each HF tensor of a mapping, in the order of mapping.hf.
  [[nodiscard]] const std::vector<Shape>& hf_shapes(const model::Mapping& mapping) const;
  /// Where each HF tensor comes from on the way back: all targets of each mapping, owners first,
  /// copies after.
  struct Owner {
    std::size_t file = 0;    // into files()
    std::size_t target = 0;  // into ShardFile::targets
  };
  [[nodiscard]] const std::vector<std::vector<Owner>>& owners() const { return owners_; }

 private:
  Status bind_rules(const kinds::Catalogue& kinds);
  Status bind_factors(const kinds::Catalogue& kinds, std::span<const Factor> factors);
  Status check_targets() const;
  Status check_placed() const;
  Status place();
  void place_in(ShardFile& file, const parallel::StageContents& stage) const;

  const model::Model* model_ = nullptr;
  parallel::Layout layout_;
  std::vector<parallel::StageContents> stages_;
  std::map<std::pair<const family::Rule*, Rebinding>, layout::BoundRule> bound_;
  std::vector<ShardFile> files_;
  std::vector<std::vector<Owner>> owners_;
  std::int64_t padded_vocabulary_ = 0;
};

/// Targets of all files together. The largest published models have half a million on 64 ranks.
inline constexpr std::int64_t kTargetsMax = std::int64_t{1} << 22;

/// Expected headers of the whole HF checkpoint by the rules: names and shapes; dtypes are BF16
/// placeholders. Errors: those of Plan::make on one rank.
[[nodiscard]] Result<Headers> expected_headers(const model::Model& model,
                                               const kinds::Catalogue& kinds);

}  // namespace bv::plan
