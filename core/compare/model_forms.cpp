#include "core/compare/model_forms.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"

namespace bv::compare {
namespace {

/// The elements of a view, made when they are asked for.
class ViewElements : public ElementMaker {
 public:
  explicit ViewElements(View view) : view_(std::move(view)) {}
  [[nodiscard]] Status make(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    ViewReader reader(view_);
    const auto made = reader.read(ElementOffset(begin), ElementOffset(end));
    std::memcpy(out, made.data(), made.size());
    return Done{};
  }
  [[nodiscard]] std::int64_t elements() const override {
    return element_count(view_.spec.shape).value_or(0);
  }
  [[nodiscard]] const View& view() const { return view_; }

 private:
  View view_;
};

/// Tensors that are views of those of another store.
class ViewStore : public io::TensorStore {
 public:
  explicit ViewStore(const io::TensorStore& of) : of_(of) {}
  const TensorSpec* add(View view) {
    std::string name = view.spec.name;
    const auto made = std::make_shared<const ViewElements>(std::move(view));
    return &made_.insert_or_assign(std::move(name), made).first->second->view().spec;
  }
  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override {
    const auto found = made_.find(tensor);
    return found == made_.end() ? nullptr : &found->second->view().spec;
  }
  [[nodiscard]] Headers headers() const override {
    Headers out;
    for (const auto& [name, made] : made_) {
      out.emplace(name, made->view().spec);
    }
    return out;
  }
  [[nodiscard]] std::vector<io::Chunk> chunks(const TensorSpec& tensor) const override {
    const ViewElements& made = *made_.find(tensor.name)->second;
    const checkpoint::SourceTensor& first = made.view().sources.front();
    return {{Shape(tensor.shape.size(), 0), tensor.shape, of_.chunks(*first.spec).front().bytes,
             &made}};
  }
  [[nodiscard]] const std::vector<std::filesystem::path>& files() const override {
    return of_.files();
  }
  [[nodiscard]] std::uint64_t total_bytes() const override { return of_.total_bytes(); }
  [[nodiscard]] Status unchanged() const override { return of_.unchanged(); }
  void release(std::span<const std::byte> range) const override { of_.release(range); }

 private:
  const io::TensorStore& of_;
  std::map<std::string, std::shared_ptr<const ViewElements>, std::less<>> made_;
};

/// A model on one rank; its own copy, so that the plan lives as long as it is used.
struct Placed {
  model::Model model;
  std::optional<plan::Plan> plan;
};

std::shared_ptr<const Placed> place(const StoredModel& side, const kinds::Catalogue& kinds) {
  const auto out = std::make_shared<Placed>(Placed{*side.model, std::nullopt});
  auto plan = plan::Plan::make(out->model, kinds, {});
  if (!plan || plan->files().size() != 1) {
    return nullptr;
  }
  out->plan.emplace(std::move(*plan));
  return out;
}

std::set<const family::Rule*> rules_of(const model::Model& model) {
  std::set<const family::Rule*> out;
  for (const model::Mapping& mapping : model.mappings) {
    out.insert(mapping.rule);
  }
  return out;
}

/// One parameter and the mapping that makes it.
struct Parameter {
  const plan::Target* target = nullptr;
  const model::Mapping* mapping = nullptr;
};
using Parameters = std::map<std::string_view, Parameter>;

Parameters parameters_of(const Placed& side) {
  Parameters out;
  for (const plan::Target& target : side.plan->files().front().targets) {
    if (!target.copy) {
      out[target.global_name] = {&target, &side.plan->model().mappings[target.mapping]};
    }
  }
  return out;
}

/// The tensors of the mapping lie as its rule reads them, in elements that can be addressed.
bool can_be_read(const StoredModel& side, const Placed& placed, const model::Mapping& mapping) {
  const auto& shapes = placed.plan->hf_shapes(mapping);
  for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
    const auto found = side.headers->find(mapping.hf[i]);
    if (found == side.headers->end() || found->second.shape != shapes[i] ||
        bits(found->second.dtype) % 8 != 0) {
      return false;
    }
  }
  const auto dtypes = plan::dtypes_of(*side.headers, mapping);
  return std::ranges::all_of(dtypes, plan::is_parameter_dtype) ||
         std::ranges::all_of(dtypes, [&](DType one) { return one == dtypes.front(); });
}

View view_of(const io::TensorStore& store, const Placed& placed, const Parameter& parameter,
             DType dtype) {
  const layout::Shard shard = placed.plan->shard(*parameter.target);
  View out;
  out.spec = {parameter.target->global_name, dtype, shard.shape};
  for (const std::string& hf : parameter.mapping->hf) {
    out.sources.push_back({&store, store.find(hf)});
  }
  out.boxes = shard.boxes;
  return out;
}

/// Every parameter that the two sides make by different rules; empty when one of them is made of
/// tensors that also make something else, or cannot be read as its rule says.
std::vector<std::pair<Parameter, Parameter>> in_other_forms(const StoredModel& a,
                                                            const Placed& of_a,
                                                            const StoredModel& b,
                                                            const Placed& of_b) {
  const Parameters wanted = parameters_of(of_a);
  const Parameters found = parameters_of(of_b);
  std::vector<std::pair<Parameter, Parameter>> out;
  std::map<const model::Mapping*, std::int64_t> made;
  for (const auto& [name, parameter] : wanted) {
    const auto other = found.find(name);
    if (other == found.end() || other->second.mapping->rule == parameter.mapping->rule) {
      continue;
    }
    if (of_a.plan->bound(*parameter.mapping).target_shapes()[0] !=
        of_b.plan->bound(*other->second.mapping).target_shapes()[0]) {
      return {};
    }
    ++made[parameter.mapping];
    ++made[other->second.mapping];
    out.emplace_back(parameter, other->second);
  }
  for (const auto& [one, other] : out) {
    if (made[one.mapping] != of_a.model.parameters_of(*one.mapping) ||
        made[other.mapping] != of_b.model.parameters_of(*other.mapping) ||
        !can_be_read(a, of_a, *one.mapping) || !can_be_read(b, of_b, *other.mapping)) {
      return {};
    }
  }
  return out;
}

}  // namespace

void cast_wanted(const StoredModel& a, const plan::DtypePolicy& policy, Comparison& comparison) {
  std::map<std::string_view, DType> cast;
  for (const model::Mapping& mapping : a.model->mappings) {
    if (!std::ranges::all_of(mapping.hf,
                             [&](const std::string& hf) { return a.headers->contains(hf); })) {
      continue;  // the names say what is missing
    }
    const DType to =
        plan::target_dtype(*mapping.rule, plan::dtypes_of(*a.headers, mapping), policy);
    for (const std::string& hf : mapping.hf) {
      cast[hf] = to;
    }
  }
  for (const auto& [copy, original] : a.model->must_equal) {
    if (const auto of = cast.find(original); of != cast.end()) {
      cast[copy] = of->second;
    }
  }
  for (Subject& subject : comparison.subjects) {
    const auto to = cast.find(subject.hf.empty() ? subject.tensor : subject.hf.front());
    const bool kept = subject.found && subject.found->spec->dtype == subject.spec.dtype;
    if (to == cast.end() || kept || !plan::is_parameter_dtype(subject.spec.dtype)) {
      continue;
    }
    subject.spec.dtype = to->second;
    subject.wanted = [wanted = std::move(subject.wanted), dtype = to->second] {
      View out = wanted();
      out.spec.dtype = dtype;
      return out;
    };
  }
}

std::vector<std::string> compare_forms(const StoredModel& a, const StoredModel& b,
                                       const kinds::Catalogue& kinds,
                                       const plan::DtypePolicy& policy, Comparison& comparison) {
  if (!a.model->faults.empty() || !b.model->faults.empty() ||
      rules_of(*a.model) == rules_of(*b.model)) {
    return {};
  }
  const auto of_a = place(a, kinds);
  const auto of_b = place(b, kinds);
  const auto pairs = of_a && of_b ? in_other_forms(a, *of_a, b, *of_b)
                                  : std::vector<std::pair<Parameter, Parameter>>();
  if (pairs.empty()) {
    return {};
  }
  const auto views = std::make_shared<ViewStore>(*b.store);
  std::set<std::string_view> by_name, strays;
  for (const auto& [wanted, found] : pairs) {
    by_name.insert(wanted.mapping->hf.begin(), wanted.mapping->hf.end());
    strays.insert(found.mapping->hf.begin(), found.mapping->hf.end());
    const DType holds =
        plan::target_dtype(*found.mapping->rule, plan::dtypes_of(*b.headers, *found.mapping), {});
    const auto dtypes = plan::dtypes_of(*a.headers, *wanted.mapping);
    const DType own = plan::target_dtype(*wanted.mapping->rule, dtypes, {});
    const DType as = own == holds ? own : plan::target_dtype(*wanted.mapping->rule, dtypes, policy);
    Subject subject;
    subject.tensor = wanted.target->global_name;
    subject.hf = wanted.mapping->hf;
    subject.spec = {subject.tensor, as, of_a->plan->bound(*wanted.mapping).target_shapes()[0]};
    subject.wanted = [store = a.store, of_a, parameter = wanted, as] {
      return view_of(*store, *of_a, parameter, as);
    };
    subject.found =
        checkpoint::SourceTensor{views.get(), views->add(view_of(*b.store, *of_b, found, holds))};
    comparison.subjects.push_back(std::move(subject));
  }
  const auto own = std::ssize(comparison.subjects) - std::ssize(pairs);
  comparison.subjects.erase(
      std::remove_if(comparison.subjects.begin(), comparison.subjects.begin() + own,
                     [&](const Subject& one) { return by_name.contains(one.tensor); }),
      comparison.subjects.begin() + own);
  std::erase_if(comparison.strays, [&](const Stray& one) { return strays.contains(one.tensor); });
  comparison.keeps.push_back(views);
  return {fmt::format(
      "{} stored in another form in B, and compared element by element under {} of Megatron",
      counted(pairs.size(), "parameter") + (pairs.size() == 1 ? " is" : " are"),
      pairs.size() == 1 ? "its name" : "their names")};
}

}  // namespace bv::compare
