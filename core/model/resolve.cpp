#include "core/model/resolve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"

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
    model_.family = family_;
    model_.spelling = options_.spelling;
    BV_CHECK(choose_prefixes());
    const NamesThere there{options_.config_only ? nullptr : &headers_, &model_.prefixes};
    BV_TRY(geometry, read_geometry_with(*family_, config_, &there));
    model_.geometry = std::move(geometry);
    describe_config();
    for (const family::Section& section : family_->sections) {
      BV_CHECK(resolve_section(section));
    }
    BV_CHECK(check_parameters());
    if (!options_.config_only) {
      const std::vector<std::string> unused = settle_leftovers(ledger_, options_, model_);
      missing_.report(model_, headers_.size(), unused);
    }
    describe_lists();
    return std::move(model_);
  }

 private:
  /// The choice whose probe is in the headers. None: the choice under which most names stand.
  Status choose_prefixes() {
    for (const auto& [name, rule] : family_->prefixes) {
      model_.prefixes[name] = rule.choices.front();
      BV_TRY(stated, stated_form(options_, fmt::format("prefix_{}", name), rule.choices));
      if (stated != nullptr) {
        model_.prefixes[name] = *stated;
        model_.detected.push_back(
            {fmt::format("prefix_{}", name), *stated, "stated by the caller"});
      }
      if (rule.choices.size() == 1 || options_.config_only) {
        continue;
      }
      std::vector<std::string> there;
      std::vector<std::string> chosen;
      for (const std::string& choice : rule.choices) {
        const std::map<std::string, std::string, std::less<>> one = {{name, choice}};
        BV_TRY(probe, family::expand(rule.probe, {&one, nullptr, "", -1, -1}));
        if (headers_.contains(probe)) {
          there.push_back(probe);
          chosen.push_back(choice);
        }
      }
      std::string because =
          there.empty() ? "most names start with it" : fmt::format("{} is there", there.front());
      model_.prefixes[name] = there.empty() ? most_common(rule.choices) : chosen.front();
      model_.detected.push_back(
          {fmt::format("prefix_{}", name), model_.prefixes[name], std::move(because)});
      if (there.size() > 1) {
        report_two_prefixes(there);
      }
    }
    return Done{};
  }

  std::string most_common(const std::vector<std::string>& choices) const {
    std::map<std::string, std::int64_t> counts;
    for (const auto& [name, spec] : headers_) {
      const std::string* longest = nullptr;
      for (const std::string& choice : choices) {
        if (name.starts_with(choice) && (longest == nullptr || choice.size() > longest->size())) {
          longest = &choice;
        }
      }
      counts[longest == nullptr ? "" : *longest] += longest == nullptr ? 0 : 1;
    }
    return *std::max_element(
        choices.begin(), choices.end(),
        [&](const std::string& a, const std::string& b) { return counts[a] < counts[b]; });
  }

  void report_two_prefixes(const std::vector<std::string>& there) {
    NameFault fault;
    fault.code = Code::DuplicateClaim;
    fault.subject = there[1];
    fault.message =
        fmt::format("{} and {} both stand for one Megatron parameter", there[0], there[1]);
    fault.found = join(there, " and ");
    fault.wanted = "exactly one of them";
    fault.help = "two checkpoints lie in one directory: keep the files of one";
    model_.faults.push_back(std::move(fault));
  }

  void describe_config() {
    model_.tied = model_.geometry.get("tie_word_embeddings").value_or(0) != 0;
    const auto origin = [this](const std::string& name) {
      const auto found = model_.geometry.origin.find(name);
      return found == model_.geometry.origin.end() ? std::string("family file") : found->second;
    };
    model_.detected.push_back(
        {"embeddings", model_.tied ? "tied" : "untied", origin("tie_word_embeddings")});
    for (const family::LayerFlag& flag : family_->layer_flags) {
      const auto count =
          std::count_if(model_.geometry.layer_flags.begin(), model_.geometry.layer_flags.end(),
                        [&](const auto& flags) { return flags.contains(flag.name); });
      model_.detected.push_back({fmt::format("layers_{}", flag.name),
                                 fmt::format("{} of {}", count, model_.geometry.layer_flags.size()),
                                 origin(flag.name)});
    }
    std::vector<std::string> defaults;
    for (const auto& [name, from] : model_.geometry.origin) {
      if (from.starts_with("default ") && model_.geometry.get(name)) {
        defaults.push_back(fmt::format("{}={}", name, model_.geometry.at(name)));
      }
    }
    if (!defaults.empty()) {
      model_.detected.push_back({"config_defaults", join(defaults, " "),
                                 fmt::format("absent from config.json ({})", family_->file)});
    }
  }

  Status resolve_section(const family::Section& section) {
    BV_TRY(count, repeats(section, model_.geometry));
    if (section.stage == family::Stage::Mtp) {
      BV_TRY(kept, mtp_count(section, count));
      count = kept;
    }
    if (count == 0) {
      return Done{};
    }
    BV_TRY(bound, bind_section(section, count));
    BV_TRY(forms, choose_forms(bound, ledger_, options_, model_));
    BV_CHECK(add_mappings(bound, forms));
    add_constraints(section, count);
    return add_copies(section, count);
  }

  /// How many MTP layers to map: those of the config, unless they are dropped or none of their
  /// tensors is there.
  Result<std::int64_t> mtp_count(const family::Section& section, std::int64_t count) {
    BV_TRY(prefixes, mtp_prefixes(section, model_));
    const auto present =
        std::find_if(prefixes.begin(), prefixes.end(), [this](const std::string& prefix) {
          const auto at = headers_.lower_bound(prefix);
          return at != headers_.end() && at->first.starts_with(prefix);
        });
    if (options_.drop_mtp) {
      model_.detected.push_back({"mtp", "dropped", "--drop-mtp"});
      forget_mtp(section);
      return std::int64_t{0};
    }
    model_.mtp_layers = count;
    const auto origin = model_.geometry.origin.find(section.over);
    const std::string because =
        origin == model_.geometry.origin.end() ? "family file" : origin->second;
    model_.detected.push_back(
        {"mtp", count == 1 ? "1 layer" : fmt::format("{} layers", count), because});
    if (count == 0 || options_.config_only || present != prefixes.end()) {
      return count;
    }
    NameFault fault;
    fault.code = Code::HfTensorMissing;
    fault.subject = prefixes.empty() ? section.title : prefixes.front() + "*";
    fault.message = fmt::format(
        "config.json says {} MTP layer{} ({}), but the checkpoint holds no tensor of it: its "
        "Megatron parameters would "
        "keep their initial values",
        count, count == 1 ? "" : "s", because);
    fault.found = fmt::format("no tensor {}", fault.subject);
    fault.wanted = fmt::format("the tensors of {} MTP layer{}", count, count == 1 ? "" : "s");
    fault.help =
        "convert without it: --drop-mtp (transformers leaves MTP tensors out when it saves)";
    model_.faults.push_back(std::move(fault));
    return std::int64_t{0};
  }

  void forget_mtp(const family::Section& section) {
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
        BV_TRY(experts, family::evaluate(rule.experts, model_.geometry.symbols));
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
    const std::int64_t experts =
        stack ? model_.geometry.get("num_experts").value_or(1) : row.experts;
    const auto names = checked_mul(count, std::max<std::int64_t>(experts, 1));
    names_ = capped_add(names_, names.value_or(std::numeric_limits<std::int64_t>::max()));
    if (names_ <= most) {
      return Done{};
    }
    const std::string asked = experts > 1 ? fmt::format("{} x {} experts", count, experts)
                                          : fmt::format("{} repetitions", count);
    return fail(Code::SizeOutOfBounds,
                fmt::format("config.json asks for {} in the section {}{}: more tensors than {}",
                            asked, section.title, origin_of(section.over),
                            options_.config_only ? "any model has" : "the checkpoint can hold"))
        .at("config.json")
        .pair(asked, options_.config_only
                         ? fmt::format("at most {} tensors", thousands(most))
                         : fmt::format("{} tensors in the headers", thousands(tensors)))
        .advise("correct the number of layers or experts, or overrule it with --set");
  }

  /// " (text_config.num_hidden_layers)"
  std::string origin_of(const std::string& symbol) const {
    const auto origin = model_.geometry.origin.find(symbol);
    return origin == model_.geometry.origin.end() ? "" : fmt::format(" ({})", origin->second);
  }

  Status add_mappings(const BoundSection& bound, const FormChoice& forms) {
    const auto in_use = [&forms](const BoundRow& row) {
      return row.rule->form_group.empty() ||
             forms.chosen.at(row.rule->form_group) == row.rule->form;
    };
    return for_each_name(
        model_, bound, in_use,
        [&](const BoundRow& row, const NamePlace& place, std::string&& name) {
          if (place.slot == 0) {
            model_.mappings.push_back({row.rule,
                                       bound.section->stage,
                                       bound.section->variable.empty() ? -1 : place.index,
                                       row.rule->per_expert ? place.expert : -1,
                                       {}});
            model_.mappings.back().hf.reserve(row.hf.size());
          }
          use_name(row, place.slot, std::move(name), forms.mixed.contains(row.rule->form_group));
        });
  }

  void use_name(const BoundRow& row, std::size_t slot, std::string&& name, bool mixed) {
    Mapping& mapping = model_.mappings.back();
    if (ledger_.find(name) != nullptr) {
      const std::int64_t before =
          ledger_.claim(name, static_cast<std::int64_t>(model_.mappings.size()) - 1);
      if (before >= 0) {
        report_claim(name, model_.mappings[static_cast<std::size_t>(before)], mapping);
      }
    } else if (!mixed) {
      missing_.add(mapping, slot, name, row.hf[slot].pattern());
    }
    mapping.hf.push_back(std::move(name));
  }

  void report_claim(const std::string& name, const Mapping& first, const Mapping& second) {
    if (!claims_.insert({first.rule, second.rule}).second) {
      return;  // one fault a pair of rules
    }
    NameFault fault;
    fault.code = Code::DuplicateClaim;
    fault.subject = name;
    fault.message =
        fmt::format("{} is claimed by {} and by {}", name, first.rule->source, second.rule->source);
    fault.found =
        fmt::format("{} and {}", model_.megatron_name(first), model_.megatron_name(second));
    fault.wanted = "one rule for each HF tensor";
    fault.help = "remove one of the two rules, or give them different conditions";
    model_.faults.push_back(std::move(fault));
  }

  void add_constraints(const family::Section& section, std::int64_t count) {
    for (const family::ConstraintRule& rule : section.constraints) {
      const family::Constraint& add = rule.constraint;
      const bool known = std::any_of(model_.constraints.begin(), model_.constraints.end(),
                                     [&add](const family::Constraint& have) {
                                       return have.code == add.code &&
                                              have.divisor == add.divisor &&
                                              have.dividend == add.dividend && have.of == add.of;
                                     });
      if (!known && occurs(*family_, section, rule.when, model_.geometry, count)) {
        model_.constraints.push_back(add);
      }
    }
  }

  /// Stored copies of other tensors take no part in the mapping; their bytes must be those of the
  /// other.
  Status add_copies(const family::Section& section, std::int64_t count) {
    for (std::int64_t index = 0; index < count; ++index) {
      const auto flags = section_flags(section, model_.geometry, index);
      const family::NameValues values{&model_.prefixes, &model_.geometry.symbols, section.variable,
                                      index, -1};
      for (const family::Copy& copy : section.copies) {
        BV_TRY(name, family::expand(copy.copy, values));
        if (ledger_.find(name) == nullptr ||
            !family::holds(*family_, copy.when, {&model_.geometry.symbols, &flags})) {
          continue;
        }
        BV_TRY(of, family::expand(model_.tied && !copy.of_tied.empty() ? copy.of_tied : copy.of,
                                  values));
        ledger_.explain(name);
        model_.ignored.push_back(name);
        model_.must_equal.emplace_back(name, of);
        model_.detected.push_back(
            {"stored_copy", name, fmt::format("repeats {}: the bytes must be equal", of)});
      }
    }
    return Done{};
  }

  /// Every Megatron parameter is made by one mapping.
  Status check_parameters() {
    std::unordered_map<std::string, const Mapping*> made;
    made.reserve(model_.mappings.size());
    for (const Mapping& mapping : model_.mappings) {
      const auto [entry, fresh] = made.try_emplace(model_.megatron_name(mapping), &mapping);
      if (!fresh) {
        return fail(Code::RulesInvalid,
                    fmt::format("Megatron parameter {} is made twice", entry->first))
            .at(mapping.rule->source)
            .pair(fmt::format("{} and {}", entry->second->rule->source, mapping.rule->source),
                  "one rule for each parameter")
            .advise("remove one of the two rules, or give them different conditions");
      }
    }
    return Done{};
  }

  void describe_lists() {
    const std::size_t copies = model_.must_equal.size();
    if (model_.ignored.size() > copies) {
      model_.detected.push_back(
          {"ignored", thousands(static_cast<std::int64_t>(model_.ignored.size() - copies)),
           fmt::format("allowed by the family file: {}", join(family_->ignore_hf, ", "))});
    }
    if (!model_.dropped.empty()) {
      model_.detected.push_back(
          {"dropped", thousands(static_cast<std::int64_t>(model_.dropped.size())), "--drop-mtp"});
    }
  }

  family::FamilyPtr family_;
  const nlohmann::json& config_;
  const Headers& headers_;
  const ResolveOptions& options_;
  Ledger ledger_;
  MissingNames missing_;
  std::int64_t names_ = 0;  // that the config asks for
  std::set<std::pair<const family::Rule*, const family::Rule*>> claims_;
  Model model_;
};

}  // namespace

Result<Model> resolve(family::FamilyPtr family, const nlohmann::json& config,
                      const Headers& headers, const ResolveOptions& options) {
  return Resolver(std::move(family), config, headers, options).run();
}

}  // namespace bv::model
