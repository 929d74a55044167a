// The claim adapter-placement: each element of local factors, against the oracle of the modules.

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <tuple>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "oracles/lora_factors.hpp"
#include "properties/claims/adapter_layers.hpp"
#include "properties/claims/adapter_verdicts.hpp"
#include "properties/claims/placed_adapter.hpp"
#include "properties/claims/subject.hpp"
#include "properties/claims/tag_runs.hpp"

namespace bv::claims {
namespace {

/// A local factor of one module: boxes by ascending target.
struct LocalFactor {
  const convert::OutputTensor* tensor = nullptr;
  std::vector<layout::Box> boxes;
};
/// One layer on one rank.
struct LocalModule {
  const lora::Site* site = nullptr;
  std::string key;       // of canonical LoRA
  std::int64_t hf = -1;  // that its projection is in
  std::int64_t ways = 1, rank = 0;
  std::int64_t first_expert = -1, experts = 0;  // of a stack
  std::string rank_name;                        // "etp1"
  bool shared = false;                          // one A for all pairs of an expert
  std::int64_t lora_rank = 0, in = 0;           // of the layer
  LocalFactor a, b, magnitude;
};

/// All modules of one layout.
class LayoutPlacement {
 public:
  LayoutPlacement(const AdapterSubject& subject, const PlacedAdapter& placed,
                  std::set<std::string>& right)
      : subject_(subject),
        placed_(placed),
        model_(placed.plan.model()),
        tags_(*subject.adapter),
        pairs_(pairs_by_expert(*subject.adapter, model_)),
        right_(right) {}

  std::vector<Verdict> run() {
    for (std::size_t f = 0; f < placed_.files.files.size(); ++f) {
      for (const convert::OutputTensor& tensor : placed_.files.files[f].tensors) {
        left_[{f, tensor.spec.name}] = &tensor;
      }
    }
    for (const lora::SiteShard& shard : placed_.sites->shards()) {
      const lora::Site& site = placed_.sites->sites()[shard.site];
      if (!placed_.canonical || site.keys.empty()) {
        judge_module(shard, site, "", -1);
        continue;
      }
      for (const auto& [key, rows] : site.keys) {
        judge_module(shard, site, key, static_cast<std::int64_t>(rows.hf));
      }
    }
    for (const auto& [place, tensor] : left_) {
      refute(tensor->spec.name, "is a factor of a layer that the adapter does not change", 1);
    }
    return verdicts();
  }

 private:
  LocalFactor take(std::size_t file, const std::string& name) {
    const auto found = left_.find({file, name});
    if (found == left_.end()) {
      return {};
    }
    const convert::OutputTensor* const tensor = left_.extract(found).mapped();
    return {tensor, tensor->boxes()};
  }

  [[nodiscard]] LayerPairs pairs_of(const LocalModule& module, std::int64_t expert) const {
    const auto found = pairs_.find({module.site->mapping_of(expert), expert});
    LayerPairs out;
    if (found != pairs_.end()) {
      std::copy_if(found->second.begin(), found->second.end(), std::back_inserter(out),
                   [&](const LayerPair& one) {
                     return module.hf < 0 || static_cast<std::int64_t>(one.hf) == module.hf;
                   });
    }
    return out;
  }

  /// Experts of a site, or the one layer that it is.
  static std::pair<std::int64_t, std::int64_t> all_of(const lora::Site& site) {
    return site.experts > 0 ? std::pair{std::int64_t{0}, site.experts}
                            : std::pair{site.expert_number, site.expert_number + 1};
  }

  void judge_module(const lora::SiteShard& shard, const lora::Site& site, const std::string& key,
                    std::int64_t hf) {
    LocalModule module;
    module.site = &site;
    module.key = key;
    module.hf = hf;
    module.shared = is_shared(module);
    std::tie(module.lora_rank, module.in) = size_of(module);
    if (module.lora_rank == 0) {
      return;  // no pair
    }
    const parallel::Layout& layout = placed_.plan.layout();
    const parallel::ShardKey& at = placed_.plan.files()[shard.file].key;
    module.ways = site.expert ? layout.etp : layout.tp;
    module.rank = site.expert ? at.etp : at.tp;
    module.rank_name = fmt::format("{}{}", site.expert ? "etp" : "tp", module.rank);
    if (site.experts > 0) {  // docs/reference/semantics.md#expert-placement
      module.experts = site.experts / layout.ep;
      module.first_expert = at.ep * module.experts;
    }
    const lora::AdapterNames names = lora::megatron_names(shard.module, key);
    module.a = take(shard.file, names.a);
    module.b = take(shard.file, names.b);
    module.magnitude = take(shard.file, names.magnitude);
    const std::int64_t tensors = module.magnitude.tensor != nullptr ? 3 : 2;
    if (module.a.tensor == nullptr || module.b.tensor == nullptr) {
      return refute(names.a, "is not there, though the adapter changes its layer", tensors);
    }
    judge_slices(module, tensors);
  }

  void judge_slices(const LocalModule& module, std::int64_t tensors) {
    for (std::int64_t j = 0; j < std::max<std::int64_t>(module.experts, 1); ++j) {
      const std::int64_t expert =
          module.experts > 0 ? module.first_expert + j : module.site->expert_number;
      const LayerPairs pairs = pairs_of(module, expert);
      const std::string identity = identity_of(module, pairs, j);
      if (right_.contains(identity)) {
        continue;
      }
      const oracle::AdapterQuestion question = question_of(module, pairs, expert);
      const auto wanted = oracle::wanted_factors(question);
      if (!wanted) {
        why_open_ = why_open_.empty() ? oracle::why_unanswered(question) : why_open_;
        open_ += tensors;
        return;
      }
      if (!is_right(module.a, wanted->a, module, j) || !is_right(module.b, wanted->b, module, j) ||
          (module.magnitude.tensor != nullptr) != wanted->magnitude.has_value() ||
          (wanted->magnitude && !is_right(module.magnitude, *wanted->magnitude, module, j))) {
        return refute(module.a.tensor->spec.name, "does not lie as its layer does", tensors);
      }
      right_.insert(identity);
    }
    proved_ += tensors;
  }

  [[nodiscard]] bool is_shared(const LocalModule& module) const {
    const auto [first, last] = all_of(*module.site);
    for (std::int64_t e = first; e < last; ++e) {
      const LayerPairs pairs = pairs_of(module, e);
      if (std::any_of(pairs.begin(), pairs.end(), [&](const LayerPair& one) {
            return !same_elements(pairs.front().pair->a, one.pair->a);
          })) {
        return false;
      }
    }
    return true;
  }

  /// Rank and width of the whole layer: those of any expert that has pairs.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> size_of(const LocalModule& module) const {
    const auto [first, last] = all_of(*module.site);
    for (std::int64_t e = first; e < last; ++e) {
      const LayerPairs pairs = pairs_of(module, e);
      std::int64_t rank = 0;
      for (const LayerPair& one : pairs) {
        rank = module.shared ? one.pair->rank() : rank + one.pair->rank();
      }
      if (!pairs.empty()) {
        return {rank, pairs.front().pair->a.columns};
      }
    }
    return {0, 0};
  }

  [[nodiscard]] std::vector<std::int64_t> hf_rows(const model::Mapping& mapping,
                                                  const lora::Site& site) const {
    std::vector<std::int64_t> out;
    for (const std::string& name : mapping.hf) {
      const auto found = subject_.base->headers.find(name);
      Shape shape = found == subject_.base->headers.end() ? Shape{} : found->second.shape;
      if (shape.size() == 3 && site.expert) {
        shape.erase(shape.begin());
      }
      out.push_back(shape.empty() ? 0 : site.columns_first ? shape.back() : shape.front());
    }
    return out;
  }

  [[nodiscard]] oracle::AdapterQuestion question_of(const LocalModule& module,
                                                    const LayerPairs& pairs,
                                                    std::int64_t expert) const {
    const model::Mapping& mapping = model_.mappings[module.site->mapping_of(expert)];
    oracle::AdapterQuestion out;
    out.weight.parameter = model_.megatron_name(mapping, expert);
    out.weight.numbers = model_.geometry.with(mapping.rule->sizes);
    out.weight.hf_names = mapping.hf;
    out.weight.shard_size = module.ways;
    out.weight.shard_rank = module.rank;
    out.weight.expert = expert;
    out.weight.model_type = subject_.base->model_type;
    out.weight.stated = stated(model_);
    out.hf_rows = hf_rows(mapping, *module.site);
    out.shared = module.shared;
    out.canonical = module.key;
    out.rank = module.lora_rank;
    out.in = module.in;
    for (const LayerPair& one : pairs) {
      oracle::AdapterPart part;
      part.hf = one.hf;
      part.first_row = one.pair->first_row;
      part.row_step = one.pair->row_step;
      part.a = tags_.of(one.pair->a);
      part.b = tags_.of(one.pair->b);
      if (one.pair->magnitude) {
        part.magnitude = tags_.of(*one.pair->magnitude);
      }
      out.parts.push_back(std::move(part));
    }
    return out;
  }

  /// Elements of one slice of a stack, or of the whole factor.
  static std::int64_t slice_elements(const LocalFactor& factor, const LocalModule& module) {
    return element_count(factor.tensor->spec.shape).value() /
           std::max<std::int64_t>(module.experts, 1);
  }

  static std::vector<layout::Box> slice(const LocalFactor& factor, const LocalModule& module,
                                        std::int64_t j) {
    const std::int64_t elements = slice_elements(factor, module);
    std::vector<layout::Box> out;
    for (const layout::Box& box : factor.boxes) {
      layout::clip_to_target(box, j * elements, (j + 1) * elements, out);
    }
    return out;
  }

  [[nodiscard]] std::int64_t first_tag(const LocalFactor& factor, const layout::Box& box) const {
    return box.source < 0
               ? -1
               : tags_.first(
                     factor.tensor->sources[static_cast<std::size_t>(box.source)].spec->name);
  }

  [[nodiscard]] std::string identity_of(const LocalModule& module, const LayerPairs& pairs,
                                        std::int64_t j) const {
    const model::Mapping& mapping = model_.mappings[module.site->mapping_of(0)];
    SliceIdentity out;
    for (const std::int64_t number :
         {static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(mapping.rule)), module.ways,
          module.rank, module.hf, std::int64_t{module.shared}, module.lora_rank, module.in,
          static_cast<std::int64_t>(std::hash<std::string>()(module.key))}) {
      out.add(number);
    }
    for (const LayerPair& one : pairs) {
      for (const std::int64_t number :
           {static_cast<std::int64_t>(one.hf), one.pair->first_row, one.pair->row_step}) {
        out.add(number);
      }
      out.add(one.pair->a, tags_.first(one.pair->a.key()));
      out.add(one.pair->b, tags_.first(one.pair->b.key()));
      if (one.pair->magnitude) {
        out.add(*one.pair->magnitude, tags_.first(one.pair->magnitude->key()));
      }
    }
    for (const LocalFactor* factor : {&module.a, &module.b, &module.magnitude}) {
      if (factor->tensor == nullptr) {
        continue;
      }
      for (const std::int64_t size : factor->tensor->spec.shape) {
        out.add(size);
      }
      for (const layout::Box& box : slice(*factor, module, j)) {
        out.add(box, first_tag(*factor, box), j * slice_elements(*factor, module));
      }
    }
    return out.text();
  }

  /// False after the first difference, which is kept.
  bool is_right(const LocalFactor& factor, const oracle::TaggedTensor& wanted,
                const LocalModule& module, std::int64_t j) {
    Shape shape = factor.tensor->spec.shape;
    if (module.experts > 0 && !shape.empty() && shape.front() == module.experts) {
      shape.erase(shape.begin());
    }
    if (shape != wanted.shape) {
      shown_ = adapter_verdict("adapter-placement", "adapter", Outcome::Refuted, 0);
      shown_->code = Code::ShapeMismatch;
      shown_->found = shape_text(shape);
      shown_->wanted = shape_text(wanted.shape);
      return false;
    }
    const std::int64_t origin = j * slice_elements(factor, module);
    std::vector<std::int64_t> found(wanted.tags.size(), kUnwritten);
    for (const layout::Box& box : slice(factor, module, j)) {
      const std::int64_t first = first_tag(factor, box);
      for (std::int64_t i = 0; i < box.elements(); ++i) {
        const layout::BoxPlace place = layout::place_of(box, i);
        found[static_cast<std::size_t>(place.target - origin)] =
            box.source < 0 ? -1 : first + place.source;
      }
    }
    if (found == wanted.tags) {
      return true;
    }
    show(factor.tensor->spec.name, module, shape, found, wanted.tags);
    return false;
  }

  void show(const std::string& name, const LocalModule& module, const Shape& shape,
            const std::vector<std::int64_t>& found, const std::vector<std::int64_t>& wanted) {
    const auto first = static_cast<std::size_t>(
        std::mismatch(found.begin(), found.end(), wanted.begin()).first - found.begin());
    const Sequences shown = sequences_at(found, wanted, shape, first);
    Verdict out = adapter_verdict("adapter-placement", "adapter", Outcome::Refuted, 0);
    out.code = Code::WrongPlacement;
    out.found = runs_text(shown.found, tags_.names, tags_.shapes);
    out.wanted = runs_text(shown.wanted, tags_.names, tags_.shapes);
    out.facts = {fmt::format("rank {} wanted  {}", module.rank_name, out.wanted),
                 fmt::format("rank {} found   {}", module.rank_name, out.found)};
    Counterexample& example = out.counterexamples.emplace_back();
    example.tensor = name;
    example.rank = module.rank_name;
    example.index = index_of(static_cast<std::int64_t>(first), shape);
    example.wanted = element_of(wanted[first], tags_.names, tags_.shapes);
    example.found = element_of(found[first], tags_.names, tags_.shapes);
    shown_ = std::move(out);
  }

  void refute(const std::string& factor, const char* what, std::int64_t tensors) {
    if (refuted_ == 0) {
      first_ = shown_ ? std::move(*shown_)
                      : adapter_verdict("adapter-placement", "adapter", Outcome::Refuted, 0);
      first_.code = shown_ ? first_.code : Code::WrongPlacement;
      first_.megatron = factor;
      first_.title = fmt::format("{} {}", factor, what);
      first_.help = "report it: the way of this program is at fault, or its oracle";
    }
    refuted_ += tensors;
    shown_.reset();
  }

  std::vector<Verdict> verdicts() {
    std::vector<Verdict> out;
    if (refuted_ > 0) {
      first_.cases = first_.refuted_cases = refuted_;
      out.push_back(std::move(first_));
    }
    if (open_ > 0) {
      Verdict& open = out.emplace_back(
          adapter_verdict("adapter-placement", "adapter", Outcome::Inconclusive, open_));
      open.code = Code::NoTargetLayout;
      open.megatron = "adapter";
      open.title = "no independent statement for a layer of the adapter: " + why_open_;
      open.help = "look at the built Megatron model: no oracle knows how this layer is cut";
    }
    if (proved_ > 0) {
      Verdict& proved = out.emplace_back(
          adapter_verdict("adapter-placement", "adapter", Outcome::Proved, proved_));
      proved.megatron = "adapter";
      proved.evidence = {.proved = true, .oracle = true};
    }
    return out;
  }

  const AdapterSubject& subject_;
  const PlacedAdapter& placed_;
  const model::Model& model_;
  AdapterTags tags_;
  PairsByExpert pairs_;
  std::set<std::string>& right_;
  std::map<std::pair<std::size_t, std::string>, const convert::OutputTensor*> left_;
  std::int64_t proved_ = 0, open_ = 0, refuted_ = 0;  // tensors
  std::string why_open_;
  std::optional<Verdict> shown_;  // of the last difference
  Verdict first_;
};

}  // namespace

std::vector<Verdict> AdapterPlacement::judge(const PlacedAdapter& placed) {
  return LayoutPlacement(subject_, placed, right_).run();
}

}  // namespace bv::claims
