#pragma once
// A model on one parallel layout: which tensors each shard file holds, and from which boxes each is
// made.

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
  std::string name;  // local to stage and expert rank, as named_parameters() gives it
  std::string global_name;
  std::uint32_t mapping = 0;  // index into Model::mappings
  std::int64_t t = 0;         // rank in the group that cuts this parameter
  std::int64_t expert = -1;   // global expert number of expert parameters, -1 otherwise
  bool copy = false;          // a second owner: tied output layer, embedding on the MTP stage
};

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
  [[nodiscard]] std::int64_t padded_vocabulary() const { return padded_vocabulary_; }

  /// Boxes of one target; box.source indexes mapping.hf.
  [[nodiscard]] layout::Shard shard(const Target& target, const Rebinding& rebinding = {}) const;
  /// Expected shape of each HF tensor of a mapping.
  [[nodiscard]] const std::vector<Shape>& hf_shapes(const model::Mapping& mapping) const;
  /// Where each HF tensor comes from on the way back: all targets of each mapping, owners first,
  /// copies after.
  struct Owner {
    std::size_t file = 0;
    std::size_t target = 0;
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
/// placeholders.
[[nodiscard]] Result<Headers> expected_headers(const model::Model& model,
                                               const kinds::Catalogue& kinds);

}  // namespace bv::plan
