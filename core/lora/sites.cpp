#include "core/lora/sites.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <tuple>

#include "core/base/arith.hpp"
#include "core/layout/side.hpp"

namespace bv::lora {
namespace {

constexpr std::size_t kNoShard = std::numeric_limits<std::size_t>::max();
constexpr std::string_view kPad = "pad";  // the part of a line that has no source
constexpr std::string_view kWeightName = ".weight";
constexpr std::string_view kLocalExperts = ".local_experts.";
constexpr std::array<std::string_view, 5> kCanonical = {"q", "k", "v", "gate", "up"};

/// "….linear_fc1.weight17" -> "….linear_fc1"; nullopt for a parameter that is no module's weight.
std::optional<std::string> module_name(std::string_view parameter, bool grouped) {
  if (grouped) {
    while (!parameter.empty() && parameter.back() >= '0' && parameter.back() <= '9') {
      parameter.remove_suffix(1);
    }
  }
  if (!parameter.ends_with(kWeightName)) {
    return std::nullopt;
  }
  return std::string(parameter.substr(0, parameter.size() - kWeightName.size()));
}

/// Rows that stand several times, or are zeros: those of one HF tensor, or of none.
bool repeats_rows(const layout::Product& product) {
  return std::any_of(product.begin(), product.end(), [](const layout::Factor& factor) {
    return factor.replica || std::any_of(factor.choices.begin(), factor.choices.end(),
                                         [](const layout::Choice& choice) {
                                           return choice.name == kPad ||
                                                  repeats_rows(choice.product);
                                         });
  });
}
bool repeats_rows(const layout::Rule& line) {
  const auto& dims = line.targets.front().dims;
  return std::any_of(dims.begin(), dims.end(),
                     [](const layout::Dim& dim) { return repeats_rows(dim.product); });
}

bool is_canonical(std::string_view name) {
  return std::find(kCanonical.begin(), kCanonical.end(), name) != kCanonical.end();
}

/// Projections of a layer, by their keys: HF tensors, or blocks of rows of the only one. Empty when
/// the layer has other parts as well.
std::map<std::string, KeyRows, std::less<>> projections(const family::Rule& rule,
                                                        const layout::BoundRule& rows) {
  std::map<std::string, KeyRows, std::less<>> out;
  const auto add = [&](const std::string& name, const KeyRows& at) {
    out["adapter_" + name] = at;
    return is_canonical(name);
  };
  bool all = true;
  if (rule.hf.size() > 1) {
    for (std::size_t i = 0; i < rule.hf.size(); ++i) {
      all = add(rule.hf[i].first, {i, 0, element_count(rows.source_shapes()[i]).value()}) && all;
    }
  } else if (const auto& product = rows.rule().sources.front().dims.front().product;
             product.size() == 1 && product.front().kind == layout::Factor::Kind::Sum) {
    std::int64_t first = 0;
    for (const layout::Choice& choice : product.front().choices) {
      std::int64_t count = 1;
      for (const layout::Factor& factor : choice.product) {
        all = all && factor.kind != layout::Factor::Kind::Sum;
        count *= factor.kind == layout::Factor::Kind::Axis ? rows.size(factor.axis) : 1;
      }
      all = add(choice.name, {0, first, count}) && all;
      first += count;
    }
  }
  return all ? out : decltype(out)();
}

bool cuts_by_t(const layout::Rule& line) {
  return line.cut || std::any_of(line.targets.front().grid.begin(), line.targets.front().grid.end(),
                                 [](const layout::GridAxis& axis) {
                                   return axis.axis == "t" && !axis.replica;
                                 });
}

}  // namespace

std::uint32_t Site::mapping_of(std::int64_t e) const {
  return mappings.size() == 1 ? mappings.front() : mappings[static_cast<std::size_t>(e)];
}

std::int64_t Site::rows_of(std::size_t source) const {
  return element_count(rows->source_shapes()[source]).value();
}

Result<SitePlan> SitePlan::make(const plan::Plan& plan, const kinds::Catalogue& kinds) {
  SitePlan out;
  out.plan_ = &plan;
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    for (const plan::Target& target : plan.files()[f].targets) {
      if (!target.copy) {
        BV_CHECK(out.add_target(f, target, kinds));
      }
    }
  }
  out.shards_of_.resize(out.sites_.size());
  std::set<std::tuple<std::size_t, std::int64_t, std::int64_t>> seen;
  for (std::size_t i = 0; i < out.shards_.size(); ++i) {
    SiteShard& shard = out.shards_[i];
    shard.replica = !seen.insert({shard.site, shard.t, shard.first_expert}).second;
    out.shards_of_[shard.site].push_back(i);
  }
  return out;
}

/// Both sides of a rule on this layout; null for a rule that makes no matrix.
Result<const SitePlan::Lines*> SitePlan::lines_of(const family::Rule& rule,
                                                  const kinds::Catalogue& kinds) {
  const auto known = lines_.find(&rule);
  if (known != lines_.end()) {
    return known->second ? &*known->second : nullptr;
  }
  auto& place = lines_[&rule];
  const model::Geometry& geometry = plan_->model().geometry;
  auto rows = plan::bind_rule(kinds, geometry, rule, plan_->layout(), {.side = layout::Side::Rows});
  auto columns =
      plan::bind_rule(kinds, geometry, rule, plan_->layout(), {.side = layout::Side::Columns});
  for (const auto* side : {&rows, &columns}) {
    if (!*side && side->error().code != Code::RulesInvalid) {
      return side->error();
    }
  }
  if (rows && columns && !rule.vocabulary) {
    place = Lines{std::move(*rows), std::move(*columns)};
  }
  return place ? &*place : nullptr;
}

Status SitePlan::add_target(std::size_t file, const plan::Target& target,
                            const kinds::Catalogue& kinds) {
  const model::Mapping& mapping = plan_->model().mappings[target.mapping];
  BV_TRY(lines, lines_of(*mapping.rule, kinds));
  const bool grouped =
      mapping.rule->expert && target.global_name.find(kLocalExperts) == std::string::npos;
  const auto global = module_name(target.global_name, grouped);
  const auto local = module_name(target.name, grouped);
  if (lines == nullptr || !global || !local) {
    return Done{};
  }
  const auto found = by_module_.find(*global);
  const std::size_t number =
      found == by_module_.end() ? add_site(*global, target, *lines, kinds) : found->second;
  Site& site = sites_[number];
  const std::int64_t e = mapping.expert < 0 ? target.expert : mapping.expert;
  if (grouped && mapping.expert >= 0) {
    const auto place = static_cast<std::size_t>(e);
    site.mappings.resize(std::max(site.mappings.size(), static_cast<std::size_t>(site.experts)));
    site.mappings[place] = target.mapping;
  }
  by_mapping_.try_emplace(std::pair{target.mapping, mapping.expert < 0 ? target.expert : -1},
                          number);
  last_shard_.resize(sites_.size(), kNoShard);
  std::size_t& last = last_shard_[number];
  if (!grouped || last == kNoShard || shards_[last].file != file) {
    last = shards_.size();
    shards_.push_back({number, file, *local, target.t, grouped ? e : -1, grouped ? 1 : 0});
    return Done{};
  }
  shards_[last].first_expert = std::min(shards_[last].first_expert, e);
  ++shards_[last].experts;
  return Done{};
}

std::size_t SitePlan::add_site(std::string module, const plan::Target& target, const Lines& lines,
                               const kinds::Catalogue& kinds) {
  const model::Mapping& mapping = plan_->model().mappings[target.mapping];
  const family::Rule& rule = *mapping.rule;
  Site site;
  site.module = module;
  site.mappings = {target.mapping};
  site.expert = rule.expert;
  const bool grouped = rule.expert && module.find(kLocalExperts) == std::string::npos;
  site.experts = grouped ? plan_->model().geometry.get("num_experts").value_or(0) : 0;
  site.expert_number = rule.expert && !grouped ? target.expert : -1;
  site.rows = &lines.rows;
  site.columns = &lines.columns;
  site.columns_first = layout::stores_columns_first(*kinds.find(rule.kind));
  site.cut = cuts_by_t(lines.rows.rule())      ? BaseCut::Rows
             : cuts_by_t(lines.columns.rule()) ? BaseCut::Columns
                                               : BaseCut::Nothing;
  site.as_in_hf = rule.as_in_hf;
  site.repeats = repeats_rows(lines.rows.rule());
  site.out = element_count(lines.rows.target_shapes()[0]).value() *
             (site.cut == BaseCut::Rows ? ways(site) : 1);
  site.in = element_count(lines.columns.source_shapes()[0]).value();
  if (!rule.expert && !site.repeats && mapping.stage != family::Stage::Vision) {
    site.keys = projections(rule, lines.rows);
  }
  by_module_[std::move(module)] = sites_.size();
  sites_.push_back(std::move(site));
  return sites_.size() - 1;
}

const std::vector<std::size_t>& SitePlan::shards_of(std::size_t site) const {
  return shards_of_[site];
}

std::optional<std::size_t> SitePlan::site_of(std::uint32_t mapping, std::int64_t expert) const {
  const auto found = by_mapping_.find({mapping, expert});
  return found == by_mapping_.end() ? std::nullopt : std::optional(found->second);
}

std::int64_t SitePlan::ways(const Site& site) const {
  return site.expert ? plan_->layout().etp : plan_->layout().tp;
}

}  // namespace bv::lora
