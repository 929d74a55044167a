// A foreign rule set for an architecture that no family knows. The parameters come from the table
// of Megatron modules (usual_modules.json): a module is there when a rule fills one of its
// parameters from the checkpoint, and then every parameter that each such module has must be
// filled. What only some of these modules have stays an open question.

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "core/base/text.hpp"
#include "core/family/builtin_files.hpp"
#include "core/family/family.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {
namespace {

constexpr std::string_view kUsual = "usual";
constexpr std::string_view kTable = "usual_modules";
constexpr std::string_view kOptional = " optional";

/// Modules of which each decoder layer has one.
constexpr std::array kMixers = {"attention", "gdn"};
constexpr std::array kFeeds = {"mlp", "experts"};

struct Module {
  std::string name;
  bool optional = false;
};

Module module_of(const family::Family& family, const family::Rule& rule) {
  std::string_view title = family.sections[rule.section].title;
  const bool optional = title.ends_with(kOptional);
  title.remove_suffix(optional ? kOptional.size() : 0);
  return {std::string(title), optional};
}

class Chooser {
 public:
  Chooser(const model::Model& usual, const ForeignRules& rules, const ForeignKinds& kinds,
          const Headers& headers)
      : usual_(usual),
        rules_(rules),
        kinds_(kinds),
        headers_(headers),
        known_(rules.rules.size()) {}

  Result<AloneModel> run() {
    model::Model wanted = usual_;
    wanted.faults.clear();
    wanted.dropped.clear();
    wanted.ignored.clear();
    if (std::any_of(rules_.rules.begin(), rules_.rules.end(), [](const ForeignRule& rule) {
          return rule.megatron.starts_with("language_model.");
        })) {
      wanted.prefixes["M"] = "language_model.";
    }
    look_at_modules(wanted);
    choose(wanted);
    AloneModel out;
    ask_about_unknown_names(wanted, out.open);
    ask_about_optional(wanted, out.open);
    keep_constraints(wanted);
    BV_TRY(applied, apply_rules(wanted, rules_, kinds_, headers_));
    out.model = std::move(applied);
    refuse_double_use(out.model);
    return out;
  }

 private:
  /// How a parameter fares with the rules: the first rule that takes its name, and whether the
  /// checkpoint has a tensor for it.
  struct Fare {
    bool taken = false;
    bool stored = false;
  };

  Fare fare_of(const std::string& parameter) {
    Fare out;
    for (const ForeignRule& rule : rules_.rules) {
      const auto captures = match_pattern(rule.megatron, parameter);
      if (!captures) {
        continue;
      }
      known_[rule.position] = true;
      out.taken = true;
      out.stored = std::any_of(rule.hf.begin(), rule.hf.end(), [&](const auto& one) {
        return headers_.contains(fill_pattern(one.second, *captures));
      });
      return out;
    }
    return out;
  }

  void look_at_modules(const model::Model& wanted) {
    for (const model::Mapping& mapping : wanted.mappings) {
      fares_.push_back(fare_of(wanted.megatron_name(mapping)));
      const Module module = module_of(*wanted.family, *mapping.rule);
      // Norms have one name in several modules; the others tell which module it is.
      if (fares_.back().stored && !module.optional && mapping.rule->kind != "replicated") {
        present_[mapping.index].insert(module.name);
        ++count_[module.name];
      }
    }
  }

  /// A layer without one of `alternatives` lacks the one that the other layers have.
  template <class Names>
  void complete(std::set<std::string>& modules, const Names& alternatives) const {
    if (std::any_of(alternatives.begin(), alternatives.end(),
                    [&](const char* name) { return modules.contains(name); })) {
      return;
    }
    const auto times = [this](const char* name) {
      const auto found = count_.find(name);
      return found == count_.end() ? 0 : found->second;
    };
    modules.insert(
        *std::max_element(alternatives.begin(), alternatives.end(),
                          [&](const char* a, const char* b) { return times(a) < times(b); }));
  }

  void choose(model::Model& wanted) {
    const std::int64_t layers = wanted.geometry.get("num_hidden_layers").value_or(0);
    for (std::int64_t i = 0; i < layers; ++i) {
      complete(present_[i], kMixers);
      complete(present_[i], kFeeds);
      if (!fused_norms()) {
        present_[i].insert("input norm");
      }
      if (!fused_norms() || present_[i].contains("experts")) {
        present_[i].insert("mlp norm");
      }
    }
    present_[-1].insert({"embedding", "final_norm"});
    const bool said = wanted.geometry.origin.contains("tie_word_embeddings") &&
                      !wanted.geometry.origin.at("tie_word_embeddings").starts_with("default");
    if (said && !wanted.tied) {
      present_[-1].insert("output");
    }
    wanted.tied = said ? wanted.tied : !present_[-1].contains("output");
    std::vector<model::Mapping> kept;
    for (std::size_t m = 0; m < wanted.mappings.size(); ++m) {
      const Module module = module_of(*wanted.family, *wanted.mappings[m].rule);
      const bool there = present_[wanted.mappings[m].index].contains(module.name);
      const bool spelled = fused_norms() || !is_fused(wanted.mappings[m].rule->megatron);
      if (there && spelled && (!module.optional || fares_[m].stored)) {
        kept.push_back(wanted.mappings[m]);
      }
    }
    wanted.mappings = std::move(kept);
  }

  [[nodiscard]] bool fused_norms() const { return usual_.spelling.transformer_engine; }
  static bool is_fused(std::string_view parameter) {
    return parameter.ends_with(".layer_norm_weight") || parameter.ends_with(".layer_norm_bias");
  }

  /// A condition on a module that the model does not have is none.
  static void keep_constraints(model::Model& wanted) {
    std::set<std::string> names;
    for (const model::Mapping& mapping : wanted.mappings) {
      names.insert(mapping.rule->megatron);
    }
    std::erase_if(wanted.constraints, [&](const family::Constraint& one) {
      return std::none_of(names.begin(), names.end(), [&](const std::string& name) {
        return name.find("." + one.of + ".") != std::string::npos ||
               name.find("}" + one.of + ".") != std::string::npos;
      });
    });
  }

  /// Rules whose parameters the table does not know: nothing can be said about their tensors.
  void ask_about_unknown_names(model::Model& wanted, std::vector<OpenQuestion>& open) const {
    for (const ForeignRule& rule : rules_.rules) {
      if (known_[rule.position]) {
        continue;
      }
      std::vector<std::string> read;
      for (const auto& header : headers_) {
        if (std::any_of(rule.hf.begin(), rule.hf.end(), [&](const auto& one) {
              return match_pattern(one.second, header.first).has_value();
            })) {
          read.push_back(header.first);
        }
      }
      if (read.empty()) {
        continue;  // a rule that never fires: rules lint says so
      }
      OpenQuestion question;
      question.code = Code::NoTargetLayout;
      question.subject = rule.megatron;
      question.message =
          fmt::format("no module of the table has the parameter {}, which rule {} fills",
                      rule.megatron, rule.id);
      question.found = fmt::format("{} HF tensors: {}", read.size(), read.front());
      question.wanted = "a parameter of a known Megatron module";
      question.help =
          "add the module to core/families/tables/usual_modules.json and to the oracles, "
          "or write a family";
      open.push_back(std::move(question));
      wanted.ignored.insert(wanted.ignored.end(), read.begin(), read.end());
    }
  }

  void ask_about_optional(const model::Model& wanted, std::vector<OpenQuestion>& open) const {
    std::set<std::string> filled;
    for (const model::Mapping& mapping : wanted.mappings) {
      filled.insert(mapping.rule->megatron);
    }
    std::vector<std::string> left;
    for (const family::Rule& rule : usual_.family->rules) {
      const Module module = module_of(*usual_.family, rule);
      const bool there = std::any_of(present_.begin(), present_.end(), [&](const auto& layer) {
        return layer.second.contains(module.name);
      });
      const bool spelled = fused_norms() || !is_fused(rule.megatron);
      if (module.optional && there && spelled && !filled.contains(rule.megatron)) {
        left.push_back(rule.megatron.substr(rule.megatron.rfind('}') + 1));
        left.back().erase(0, left.back().starts_with('.') ? 1 : 0);
      }
    }
    OpenQuestion question;
    question.code = Code::ParametersUnknown;
    question.subject = "every module";
    question.message = "whether the modules have further parameters is known by a family only";
    question.found = fmt::format("no rule fills {}", join(left, ", "));
    question.wanted = "the list of parameters of this architecture";
    question.help =
        "write a family (docs/howto/add-a-family.md), or name a built-in one of equal "
        "structure with --family";
    open.push_back(std::move(question));
  }

  /// Without a family nothing else says that one HF tensor makes one parameter.
  static void refuse_double_use(model::Model& model) {
    std::unordered_map<std::string_view, const model::Mapping*> users;
    std::set<std::pair<const family::Rule*, const family::Rule*>> told;
    for (const model::Mapping& mapping : model.mappings) {
      for (const std::string& hf : mapping.hf) {
        const auto [first, fresh] = users.try_emplace(hf, &mapping);
        if (fresh || !told.insert({first->second->rule, mapping.rule}).second) {
          continue;
        }
        model::NameFault fault;
        fault.code = Code::DuplicateClaim;
        fault.subject = hf;
        fault.message = fmt::format("{} is read by rules {} and {}", hf, first->second->rule->id,
                                    mapping.rule->id);
        fault.found = fmt::format("{} and {}", model.megatron_name(*first->second),
                                  model.megatron_name(mapping));
        fault.wanted = "one parameter for each HF tensor";
        fault.help = "correct the HF name of one of the two rules";
        model.faults.push_back(std::move(fault));
      }
    }
  }

  const model::Model& usual_;
  const ForeignRules& rules_;
  const ForeignKinds& kinds_;
  const Headers& headers_;
  std::vector<bool> known_;  // rules that take a parameter of the table
  std::vector<Fare> fares_;  // of each mapping of the table
  std::map<std::int64_t, std::set<std::string>> present_;  // modules of each layer; -1: the rest
  std::map<std::string, std::int64_t, std::less<>> count_;
};

}  // namespace

Result<family::FamilyPtr> usual_family() {
  for (const family::BuiltinFile& file : family::builtin_tables_files()) {
    if (file.name.find(kTable) != std::string_view::npos) {
      return family::parse_family(file.text, file.name);
    }
  }
  return fail(Code::RulesInvalid, "this build has no table of modules").at(std::string(kTable));
}

bool is_usual(const model::Model& model) {
  return model.family->name == kUsual;
}

Result<AloneModel> apply_rules_alone(const model::Model& usual, const ForeignRules& rules,
                                     const ForeignKinds& kinds, const Headers& headers) {
  return Chooser(usual, rules, kinds, headers).run();
}

}  // namespace bv::foreign
