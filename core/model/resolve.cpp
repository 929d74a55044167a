#include "core/model/resolve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/family/symbols.hpp"
#include "core/model/carried.hpp"
#include "core/model/fitted.hpp"
#include "core/model/label_head.hpp"
#include "core/model/mapping_faults.hpp"
#include "core/model/mtp.hpp"
#include "core/model/one_sided.hpp"
#include "core/model/prefixes.hpp"

namespace bv::model {
namespace {

/// Names that a config asks for, of all rules and storage forms. The largest published models need
/// 100,000; the bounds keep absurd configs from filling memory.
constexpr std::int64_t kNamesMax = 500'000;  // without headers
constexpr std::int64_t kNamesLeast = 131'072;
constexpr std::int64_t kNamesPerTensor = 8;  // forms that are not stored, tensors that are missing

class Resolver {
 public:
  Resolver(family::FamilyPtr family, const nlohmann::json& config, const Headers& headers,
           const ResolveOptions& options)
      : family_(std::move(family)),
        config_(config),
        headers_(headers),
        options_(options),
        ledger_(headers) {}

  Result<Model> run() {
    if (options_.config_only && family_->unfitted != nullptr) family_ = family_->unfitted;
    family_ = with_class_head(std::move(family_), config_, headers_, options_);
    model_.family = family_;
    model_.class_name = head_class(*family_, config_).name;
    model_.spelling = options_.spelling;
    choose_prefixes();
    const NamesThere there{options_.config_only ? nullptr : &headers_, &model_.prefixes};
    BV_TRY(geometry, read_geometry_with(*family_, config_, &there));
    model_.geometry = std::move(geometry);
    take_carried();
    BV_TRY(fitted, fitted_to(family_, config_, model_.geometry));
    family_ = model_.family = std::move(fitted);
    spots_.emplace(model_);
    describe_config(model_);
    for (const family::Section& section : family_->sections) {
      BV_CHECK(resolve_section(section));
    }
    BV_CHECK(check_made_once(model_));
    if (options_.drop_mtp) count_no_mtp(model_);
    if (!options_.config_only) {
      add_leftovers(ledger_, *spots_, options_, model_, gaps_);
      report_gaps(model_, *spots_, headers_, std::move(gaps_));
    }
    describe_defaults(model_);
    describe_lists(options_, model_);
    return std::move(model_);
  }

 private:
  void choose_prefixes() {
    const Headers none;
    FoundPrefixes found = find_prefixes(*family_, options_.config_only ? none : headers_);
    model_.prefixes = std::move(found.prefixes);
    model_.faults = std::move(found.faults);
    model_.detected = std::move(found.detected);
    for (auto& [name, text] : model_.prefixes) {
      const auto stated = options_.forms.find(prefix_form(name));
      if (options_.config_only && stated != options_.forms.end()) {
        text = stated->second;
      }
    }
    for (const auto& [wanted, there] : found.stands_as) {
      ledger_.let_stand(wanted, there);
    }
    for (const std::string& name : found.explained) {
      ledger_.explain(name);
    }
  }

  /// Tensors that go as they are get rules of their own. With --match or --exclude a prefix without
  /// a tensor is nobody's fault.
  void take_carried() {
    if (family_->carried.empty() || options_.config_only) {
      return;
    }
    FoundCarried found = find_carried(family_, headers_, model_.prefixes.at(""), model_.geometry);
    family_ = std::move(found.family);
    model_.family = family_;
    std::move(found.detected.begin(), found.detected.end(), std::back_inserter(model_.detected));
    if (options_.match.empty() && options_.left_out.empty()) {
      std::move(found.faults.begin(), found.faults.end(), std::back_inserter(model_.faults));
    }
  }

  Status resolve_section(const family::Section& section) {
    BV_TRY(count, repeats(*family_, section, model_.geometry));
    if (section.stage == family::Stage::Mtp) {
      count = mtp_count(section, count);
    }
    if (count == 0 || (section.stage == family::Stage::Output &&
                       !has_output(section, config_, ledger_, options_, model_))) {
      return Done{};
    }
    BV_TRY(bound, bind_section(section, count));
    BV_TRY(forms, choose_forms(bound, ledger_, options_, model_));
    BV_CHECK(add_mappings(bound, forms));
    BV_CHECK(add_one_sided_faults(section, count, options_, ledger_, model_));
    add_constraints(section, count);
    return add_copies(section, count);
  }

  /// How many MTP layers to map: those of the config, unless they are dropped or not there.
  std::int64_t mtp_count(const family::Section& section, std::int64_t count) {
    const MtpThere there =
        options_.config_only ? MtpThere{} : find_mtp(section, model_, *spots_, headers_);
    const std::string says = join(fields_behind(*family_, model_.geometry, section.over), ", ");
    if (options_.drop_mtp) {
      drop_mtp(section, there);
      return 0;
    }
    model_.mtp_layers = count;
    model_.detected.push_back({"mtp", counted(count, "layer"), says});
    if (options_.config_only) {
      return count;
    }
    auto fault = mtp_fault(section, model_, there, count);
    if (!fault) {
      return count;
    }
    const bool fewer = fault->code == Code::HfTensorMissing && !there.empty();
    model_.faults.push_back(*std::move(fault));
    if (fewer) {  // the layers that are there are judged
      model_.mtp_layers = static_cast<std::int64_t>(there.layers.size());
      return model_.mtp_layers;
    }
    for (const std::string& name : there.names) {
      ledger_.explain(name);
    }
    if (!there.layers.empty() && *there.layers.begin() != 0) {
      forget_layers(section, *there.layers.begin());
    } else if (static_cast<std::int64_t>(there.layers.size()) > count) {
      return count;
    }
    return 0;
  }

  /// What stands behind the first layer that is in doubt says nothing more.
  void forget_layers(const family::Section& section, std::int64_t first_mtp) {
    const std::int64_t first = std::min(mtp_layer_number(section, model_, 0),
                                        mtp_layer_number(section, model_, first_mtp));
    std::erase_if(gaps_, [&](const NameGap& gap) {
      return gap.spot.section->layered && gap.spot.index >= first;
    });
    for (const auto& [name, spec] : headers_) {
      for (const NameSpot& spot : spots_->find(name)) {
        if (spot.section->layered && spot.index >= first) {
          ledger_.explain(name);
        }
      }
    }
  }

  void drop_mtp(const family::Section& section, const MtpThere& there) {
    for (const std::string& name : there.names) {
      ledger_.explain(name);
      if (is_asked_for(options_, name)) {
        model_.dropped.push_back(name);
      }
    }
    const bool counted = model_.geometry.get(section.over).value_or(0) > 0;
    model_.detected.push_back(
        {"mtp", there.empty() && !counted ? "none" : "dropped",
         there.empty() ? "--drop-mtp; the checkpoint holds no MTP layer" : "--drop-mtp"});
    const auto symbol = model_.geometry.symbols.find(section.over);
    if (symbol != model_.geometry.symbols.end()) {
      symbol->second = 0;
      model_.geometry.origin[section.over] = "--drop-mtp";
    }
  }

  Result<BoundSection> bind_section(const family::Section& section, std::int64_t count) {
    BoundSection bound{&section, count, {}};
    for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
      const family::Rule& rule = family_->rules[i];
      if (!occurs(*family_, section, rule.when, model_.geometry, count)) {
        continue;
      }
      BoundRow row{&rule, {}, 1};
      for (const auto& [source, name] : rule.hf) {
        BV_TRY(bound_name, BoundName::bind(name, section, model_));
        row.hf.push_back(std::move(bound_name));
      }
      if (rule.per_expert) {
        BV_TRY(experts, family::evaluate_at(rule.source, rule.experts, model_.geometry.symbols));
        row.experts = experts;
      }
      BV_CHECK(count_names(section, rule, count, row));
      bound.rows.push_back(std::move(row));
    }
    return bound;
  }

  /// No more names than the headers can hold, before one of them is made. Stacks of experts are one
  /// name, and one Megatron parameter for each expert.
  Status count_names(const family::Section& section, const family::Rule& rule, std::int64_t count,
                     const BoundRow& row) {
    const auto tensors = static_cast<std::int64_t>(headers_.size());
    const std::int64_t most =
        options_.config_only ? kNamesMax : std::max(kNamesLeast, kNamesPerTensor * tensors);
    const bool stack = rule.expert && !rule.per_expert;
    const std::int64_t experts = stack ? model_.geometry.experts() : row.experts;
    const auto names = checked_mul(count, std::max<std::int64_t>(experts, 1));
    names_ = capped_add(names_, names.value_or(std::numeric_limits<std::int64_t>::max()));
    if (names_ <= most) {
      return Done{};
    }
    const std::string asked = experts > 1
                                  ? fmt::format("{} x {}", count, counted(experts, "expert"))
                                  : counted(count, "repetition");
    const std::string larger = experts <= count ? section.over
                               : stack          ? std::string(family::symbols::kExperts)
                                                : rule.experts;
    const bool own = fields_behind(*family_, model_.geometry, larger).empty();
    return fail(Code::SizeOutOfBounds,
                fmt::format("{} asks for {} in the section {} ({}): more tensors than {}",
                            own ? escaped(family_->file) : "config.json", asked, section.title,
                            field_of(*family_, model_.geometry, larger),
                            options_.config_only ? "any model has" : "the checkpoint can hold"))
        .at(own ? rule.source : "config.json")
        .pair(asked, options_.config_only ? fmt::format("at most {}", counted(most, "tensor"))
                                          : counted(tensors, "tensor") + " in the headers")
        .advise(own ? "correct \"over\" in the rules file"
                    : "correct the number of layers or experts, or overrule it with --set");
  }

  Status add_mappings(const BoundSection& bound, const FormChoice& forms) {
    const auto in_use = [&forms](const BoundRow& row) {
      return row.rule->form_group.empty() ||
             forms.chosen.at(row.rule->form_group) == row.rule->form;
    };
    std::vector<std::string> names;
    return for_each_name(model_, bound, in_use,
                         [&](const BoundRow& row, const NamePlace& place, std::string&& name) {
                           names.push_back(std::move(name));
                           if (place.slot + 1 == row.hf.size()) {
                             add_mapping(bound, row, place, std::exchange(names, {}),
                                         forms.mixed.contains(row.rule->form_group));
                           }
                         });
  }

  void add_mapping(const BoundSection& bound, const BoundRow& row, const NamePlace& place,
                   std::vector<std::string> names, bool mixed) {
    if (leaves_out(names)) {
      return;
    }
    Mapping mapping{row.rule, bound.section->stage,
                    bound.section->variable.empty() ? -1 : place.index,
                    row.rule->per_expert ? place.expert : -1, std::move(names)};
    const auto number = static_cast<std::int64_t>(model_.mappings.size());
    for (std::size_t slot = 0; slot < mapping.hf.size(); ++slot) {
      const std::string& name = mapping.hf[slot];
      if (ledger_.find(name) != nullptr) {
        const std::int64_t before = ledger_.claim(name, number);
        if (before >= 0) {
          report_claim(name, model_.mappings[static_cast<std::size_t>(before)], mapping);
        }
      } else if (options_.left_out.contains(name)) {
        report_left_out(name, mapping);
      } else if (!mixed && !is_told_one_sided(*bound.section, mapping, model_)) {
        const NameSpot spot{bound.section, row.rule, mapping.index, true, mapping.expert};
        gaps_.push_back({NameGap::Kind::Missing, name, spot, slot, model_.mappings.size()});
      }
    }
    model_.mappings.push_back(std::move(mapping));
  }

  /// A parameter is not wanted when all of its tensors were left out, or none of them is asked for.
  bool leaves_out(const std::vector<std::string>& names) {
    const auto all = [&names](const auto& test) {
      return std::all_of(names.begin(), names.end(), test);
    };
    if (!options_.left_out.empty() &&
        all([this](const std::string& name) { return options_.left_out.contains(name); })) {
      ++model_.unasked;
      return true;
    }
    if (!all([this](const std::string& name) { return !is_asked_for(options_, name); })) {
      return false;
    }
    for (const std::string& name : names) {
      ledger_.explain(name);
    }
    return true;
  }

  void report_left_out(const std::string& name, const Mapping& mapping) {
    if (torn_.insert(mapping.rule).second) {  // one fault a rule
      model_.faults.push_back(torn_parameter(model_, name, mapping));
    }
  }

  void report_claim(const std::string& name, const Mapping& first, const Mapping& second) {
    if (claims_.insert({first.rule, second.rule}).second) {  // one fault a pair of rules
      model_.faults.push_back(claimed_twice(model_, name, first, second));
    }
  }

  void add_constraints(const family::Section& section, std::int64_t count) {
    for (const family::ConstraintRule& rule : section.constraints) {
      const family::Constraint& add = rule.constraint;
      const bool known = std::ranges::find(model_.constraints, add) != model_.constraints.end();
      if (!known && occurs(*family_, section, rule.when, model_.geometry, count)) {
        model_.constraints.push_back(add);
      }
    }
  }

  /// Stored copies of other tensors take no part; their bytes must be those of the other.
  Status add_copies(const family::Section& section, std::int64_t count) {
    for (std::int64_t index = 0; index < count; ++index) {
      const auto flags = section_flags(section, model_.geometry, index);
      const family::NameValues values{&model_.prefixes, &model_.geometry.symbols, section.variable,
                                      index, -1};
      for (const family::Copy& copy : section.copies) {
        BV_TRY(name, expand_hf(*family_, copy.copy, values));
        BV_TRY(of,
               expand_hf(*family_, model_.tied && !copy.of_tied.empty() ? copy.of_tied : copy.of,
                         values));
        if (ledger_.find(name) == nullptr || ledger_.find(of) == nullptr ||
            options_.left_out.contains(of) ||
            !family::holds(*family_, copy.when, {&model_.geometry.symbols, &flags})) {
          continue;
        }
        ledger_.explain(name);
        if (!is_asked_for(options_, name)) {
          continue;
        }
        model_.ignored.push_back(name);
        model_.must_equal.emplace_back(name, of);
        model_.detected.push_back(
            {"stored_copy", name, fmt::format("repeats {}: the bytes must be equal", of)});
      }
    }
    return Done{};
  }

  family::FamilyPtr family_;
  const nlohmann::json& config_;
  const Headers& headers_;
  const ResolveOptions& options_;
  Ledger ledger_;
  std::int64_t names_ = 0;  // that the config asks for
  std::optional<NameSpots> spots_;
  std::vector<NameGap> gaps_;
  std::set<const family::Rule*> torn_;
  std::set<std::pair<const family::Rule*, const family::Rule*>> claims_;
  Model model_;
};

}  // namespace

Result<Model> resolve(family::FamilyPtr family, const nlohmann::json& config,
                      const Headers& headers, const ResolveOptions& options) {
  return Resolver(std::move(family), config, headers, options).run();
}

}  // namespace bv::model
