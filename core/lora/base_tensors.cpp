#include "core/lora/base_tensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/layout/side.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/class_names.hpp"
#include "core/plan/bind_rule.hpp"

namespace bv::lora {
namespace {

constexpr std::string_view kExpertForms = "_experts";

bool is_matrix(const kinds::Catalogue& kinds, const family::Rule& rule) {
  return kinds.find(rule.kind, layout::Side::Rows) != nullptr &&
         kinds.find(rule.kind, layout::Side::Columns) != nullptr;
}

/// Where each row of a parameter comes from: (source, row) by target row, on one rank.
struct RowSource {
  std::int32_t source = -1;
  std::int64_t row = 0;
};
std::vector<RowSource> row_sources(const layout::BoundRule& rows) {
  std::vector<RowSource> out(
      static_cast<std::size_t>(element_count(rows.target_shapes()[0]).value()));
  for (const layout::Box& box : rows.shard(0, {}).boxes) {
    for (std::int64_t i = 0; i < box.elements(); ++i) {
      const layout::BoxPlace at = layout::place_of(box, i);
      out[static_cast<std::size_t>(at.target)] = {box.source, at.source};
    }
  }
  return out;
}

std::string_view parent_of(std::string_view name) {
  const std::size_t tail = last_component(name).size();
  return name.substr(0, name.size() - std::min(name.size(), tail + 1));
}

/// The experts that a mapping makes: all of a stack, or its own.
std::pair<std::int64_t, std::int64_t> experts_of(const model::Model& model,
                                                 const model::Mapping& mapping) {
  return mapping.expert < 0
             ? std::pair{std::int64_t{0}, model.geometry.get("num_experts").value_or(0)}
             : std::pair{mapping.expert, mapping.expert + 1};
}

/// Megatron parameters of experts, and what they are stored in.
struct StoredExpert {
  std::uint32_t mapping = 0;
  std::int64_t expert = -1;  // slice of a stack
};
using StoredExperts = std::map<std::string, StoredExpert, std::less<>>;
StoredExperts stored_experts(const model::Model& model, const kinds::Catalogue& kinds) {
  StoredExperts out;
  for (std::uint32_t m = 0; m < model.mappings.size(); ++m) {
    const model::Mapping& mapping = model.mappings[m];
    if (!mapping.rule->expert || !is_matrix(kinds, *mapping.rule)) {
      continue;
    }
    const auto [first, last] = experts_of(model, mapping);
    for (std::int64_t e = first; e < last; ++e) {
      out.try_emplace(model.megatron_name(mapping, e),
                      StoredExpert{m, mapping.expert < 0 ? e : -1});
    }
  }
  return out;
}

Result<layout::BoundRule> side_at_one_rank(const kinds::Catalogue& kinds, const model::Model& model,
                                           const family::Rule& rule, layout::Side side) {
  return plan::bind_rule(kinds, model.geometry, rule, parallel::Layout{}, {.side = side});
}

}  // namespace

Result<BaseTensors> BaseTensors::make(const checkpoint::HfModel& hf,
                                      const kinds::Catalogue& kinds) {
  BaseTensors out;
  out.headers_ = &hf.headers;
  out.tied_ = tied_head(hf);
  for (const auto& [name, spec] : hf.headers) {
    if (spec.shape.size() == 3) {
      out.packed_[std::string(parent_of(name))].push_back(name);
    }
  }
  if (hf.model.family != nullptr) {
    out.model_ = &hf.model;
    BV_CHECK(out.add_stored(hf, kinds));
    BV_CHECK(out.add_others(hf, kinds));
  }
  return out;
}

Status BaseTensors::add_stored(const checkpoint::HfModel& hf, const kinds::Catalogue& kinds) {
  std::set<std::string> ordered;  // modules whose packed parameters stand in a rule's order now
  for (const model::Mapping& mapping : hf.model.mappings) {
    if (!is_matrix(kinds, *mapping.rule)) {
      continue;
    }
    const bool first = layout::stores_columns_first(*kinds.find(mapping.rule->kind));
    for (const std::string& name : mapping.hf) {
      columns_first_[name] = first;
      const auto found = hf.headers.find(name);
      if (found == hf.headers.end() || found->second.shape.size() != 3) {
        continue;
      }
      const std::string module(parent_of(name));
      if (ordered.insert(module).second) {
        packed_[module].clear();
      }
      packed_[module].push_back(name);
    }
  }
  return Done{};
}

Status BaseTensors::add_others(const checkpoint::HfModel& hf, const kinds::Catalogue& kinds) {
  auto config = checkpoint::parse_config(hf.config_text, "config.json");
  if (!config) {
    return std::move(config).error();
  }
  model::ResolveOptions options = hf.resolve;
  options.config_only = true;
  for (const model::Detected& one : hf.model.detected) {
    if (one.what.ends_with(kExpertForms)) {
      options.forms[one.what] = one.value;
    }
  }
  for (const auto& [name, text] : hf.model.prefixes) {
    options.forms[model::prefix_form(name)] = text;
  }
  std::set<std::string> forms;
  for (const family::Rule& rule : family::rules(*hf.model.family)) {
    if (rule.expert && !rule.form.empty()) {
      forms.insert(rule.form);
    }
  }
  for (const model::Detected& one : hf.model.detected) {
    if (!one.what.ends_with(kExpertForms)) {
      continue;
    }
    for (const std::string& form : forms) {
      if (one.value == form) {
        continue;
      }
      auto changed = options;
      changed.forms[one.what] = form;
      const auto other = model::resolve(hf.model.family, *config, {}, changed);
      if (other) {  // else the family does not take that form there
        BV_CHECK(add_form(hf, *other, form, kinds));
      }
    }
  }
  return Done{};
}

Status BaseTensors::add_form(const checkpoint::HfModel& hf, const model::Model& other,
                             const std::string& form, const kinds::Catalogue& kinds) {
  const StoredExperts stored = stored_experts(hf.model, kinds);
  std::map<std::pair<const family::Rule*, const family::Rule*>, std::size_t> known;
  for (const model::Mapping& mapping : other.mappings) {
    if (mapping.rule->form != form || !mapping.rule->expert || !is_matrix(kinds, *mapping.rule)) {
      continue;
    }
    const auto [first, last] = experts_of(other, mapping);
    for (std::int64_t e = first; e < last; ++e) {
      const auto at = stored.find(other.megatron_name(mapping, e));
      if (at == stored.end()) {
        continue;
      }
      const auto pair = std::pair{mapping.rule, hf.model.mappings[at->second.mapping].rule};
      if (!known.contains(pair)) {
        BV_TRY(composed, compose(hf.model, *pair.first, *pair.second, kinds));
        compositions_.push_back(std::move(composed));
        known[pair] = compositions_.size() - 1;
      }
      add_weights(mapping, e, {at->second.mapping, at->second.expert, known[pair]});
    }
  }
  return Done{};
}

/// Every tensor of a mapping of another form; `place` says where its rows are stored.
void BaseTensors::add_weights(const model::Mapping& mapping, std::int64_t expert, Other place) {
  const bool stack = mapping.expert < 0;
  for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
    const std::string& name = mapping.hf[i];
    place.source = i;
    const bool added =
        !headers_->contains(name) &&
        others_.try_emplace(stack ? fmt::format("{}#{}", name, expert) : name, place).second;
    if (added && stack && expert == 0) {
      packed_[std::string(parent_of(name))].push_back(name);
    }
  }
}

Result<BaseTensors::Composition> BaseTensors::compose(const model::Model& model,
                                                      const family::Rule& other,
                                                      const family::Rule& stored,
                                                      const kinds::Catalogue& kinds) {
  BV_TRY(there, side_at_one_rank(kinds, model, other, layout::Side::Rows));
  BV_TRY(here, side_at_one_rank(kinds, model, stored, layout::Side::Rows));
  BV_TRY(columns, side_at_one_rank(kinds, model, other, layout::Side::Columns));
  const auto from = row_sources(there);
  const auto to = row_sources(here);
  BV_ASSERT(from.size() == to.size());
  std::map<std::pair<std::int32_t, std::int32_t>, std::map<std::int64_t, std::int64_t>> rows;
  for (std::size_t i = 0; i < from.size(); ++i) {
    rows[{from[i].source, to[i].source}][from[i].row] = to[i].row;
  }
  Composition out;
  out.columns = element_count(columns.source_shapes()[0]).value();
  for (const Shape& shape : there.source_shapes()) {
    out.rows.push_back(element_count(shape).value());
  }
  out.columns_first = layout::stores_columns_first(*kinds.find(other.kind));
  out.experts = other.per_expert ? 0 : model.geometry.get("num_experts").value_or(0);
  out.transposed = layout::stores_columns_first(*kinds.find(stored.kind));
  for (const auto& [sources, pairs] : rows) {
    Composition::Run run;
    run.source = static_cast<std::size_t>(sources.first);
    run.stored_source = static_cast<std::size_t>(sources.second);
    std::int64_t number = 0;
    for (const auto& [row, stored_row] : pairs) {
      if (number == 0) {
        run.first = row;
        run.stored_first = stored_row;
      } else if (number == 1) {
        run.step = row - run.first;
        run.stored_step = stored_row - run.stored_first;
      }
      if (row != run.first + number * run.step ||
          stored_row != run.stored_first + number * run.stored_step) {
        return fail(Code::RulesInvalid,
                    fmt::format("rows of {} and {} do not correspond step by step", other.megatron,
                                stored.megatron))
            .at(other.source)
            .advise("store the experts in the form that the class has");
      }
      ++number;
    }
    run.count = number;
    out.runs.push_back(run);
  }
  return out;
}

const TensorSpec* BaseTensors::stored(std::string_view name) const {
  if (tied_ && name == tied_->weight.name) {
    return &tied_->weight;
  }
  const auto found = headers_->find(name);
  return found == headers_->end() ? nullptr : &found->second;
}

std::optional<NamedWeight> BaseTensors::weight(std::string_view name, std::int64_t expert) const {
  NamedWeight out;
  out.name = name;
  if (const TensorSpec* spec = stored(name)) {
    const auto first = columns_first_.find(name);
    if (first != columns_first_.end()) {
      out.columns_first = first->second;
    }
    const std::size_t dims = spec->shape.size();
    if (dims != 2 && dims != 3) {
      return std::nullopt;
    }
    out.shape = spec->shape;
    out.experts = dims == 3 ? spec->shape[0] : 0;
    const bool transposed = out.columns_first.value_or(false);
    out.rows = spec->shape[transposed ? dims - 1 : dims - 2];
    out.columns = spec->shape[transposed ? dims - 2 : dims - 1];
    out.parts = {{std::string(name), dims == 3 ? expert : -1, transposed, 0, 1, out.rows, 0, 1}};
    return out;
  }
  auto found = others_.find(name);
  if (found == others_.end()) {
    found = others_.find(fmt::format("{}#{}", name, std::max<std::int64_t>(expert, 0)));
  }
  if (found == others_.end()) {
    return std::nullopt;
  }
  const Other& other = found->second;
  const Composition& composition = compositions_[other.composition];
  out.rows = composition.rows[other.source];
  out.columns = composition.columns;
  out.experts = composition.experts;
  out.columns_first = composition.columns_first;
  out.shape =
      composition.columns_first ? Shape{out.columns, out.rows} : Shape{out.rows, out.columns};
  if (out.experts > 0) {
    out.shape.insert(out.shape.begin(), out.experts);
  }
  for (const Composition::Run& run : composition.runs) {
    if (run.source == other.source) {
      out.parts.push_back({model_->mappings[other.mapping].hf[run.stored_source], other.expert,
                           composition.transposed, run.first, run.step, run.count, run.stored_first,
                           run.stored_step});
    }
  }
  return out;
}

std::optional<NamedWeight> BaseTensors::joined(const std::string& module) const {
  const std::string_view last = last_component(module);
  for (const JoinedModules& one : joined_modules(model_ ? model_->family.get() : nullptr)) {
    NamedWeight out;
    out.name = module + ".weight";
    for (const std::string& part : one.in_files) {
      const std::string own = std::string(parent_of(module)) + "." + part + ".weight";
      const std::string name = stored(own) ? own : under_other_module(own).value_or("");
      const auto weight = last == one.in_class ? this->weight(name) : std::nullopt;
      if (!weight || weight->experts > 0 || weight->columns_first.value_or(false) ||
          (!out.parts.empty() && weight->columns != out.columns)) {
        return std::nullopt;
      }
      out.columns = weight->columns;
      out.columns_first = false;
      out.parts.push_back({name, -1, false, out.rows, 1, weight->rows, 0, 1});
      out.rows += weight->rows;
    }
    out.shape = {out.rows, out.columns};
    return out;
  }
  return std::nullopt;
}

std::vector<std::string> BaseTensors::packed_in(const std::string& module) const {
  const family::Family* family = model_ == nullptr ? nullptr : model_->family.get();
  std::vector<std::string> names = file_names(family, module);
  names.insert(names.begin(), module);
  for (const std::string& name : names) {
    if (const auto found = packed_.find(name); found != packed_.end()) {
      return found->second;
    }
  }
  return {};
}

std::optional<std::string> BaseTensors::under_other_module(std::string_view name) const {
  const family::Family* family = model_ == nullptr ? nullptr : model_->family.get();
  std::vector<std::string> others = file_names(family, name);
  others.push_back(class_name(family, name));
  const auto known = [&](const std::string& other) {
    return stored(other) != nullptr || others_.contains(other);
  };
  const auto found = std::find_if(others.begin(), others.end(), known);
  return found == others.end() || *found == name ? std::nullopt : std::optional(*found);
}

std::optional<std::string> BaseTensors::under_other_prefix(std::string_view name) const {
  std::set<std::string> found;
  for (const auto& [stored_name, spec] : *headers_) {
    const auto ends = [](std::string_view text, std::string_view tail) {
      return text.size() > tail.size() && text.ends_with(tail) &&
             text[text.size() - tail.size() - 1] == '.';
    };
    if (ends(stored_name, name) || ends(name, stored_name)) {
      found.insert(stored_name);
    }
  }
  return found.size() == 1 ? std::optional(*found.begin()) : std::nullopt;
}

}  // namespace bv::lora
