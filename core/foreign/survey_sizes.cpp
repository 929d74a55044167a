// Whether the sizes that the config gives hold for the tensors that the rules read.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/family/symbols.hpp"
#include "core/foreign/foreign_line.hpp"
#include "core/foreign/numbered.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/shown.hpp"
#include "core/foreign/survey.hpp"

namespace bv::foreign {
namespace {

/// The parameters that one rule makes of one sort of module.
using GroupKey = std::pair<std::size_t, const family::Rule*>;

class SizeJudge {
 public:
  SizeJudge(const SurveyInput& input, Survey& survey) : input_(input), survey_(survey) {
    geometry_ = input.usual.geometry;
    geometry_.symbols[std::string(family::symbols::kLayers)] = survey.layers;
    geometry_.symbols[std::string(family::symbols::kExperts)] = survey.experts;
  }

  void run() {
    for (Made& made : survey_.made) {
      made.parameter.row = row_of(made);
      made.parameter.certain = made.parameter.row != nullptr || made.parameter.listed != nullptr;
      if (is_whole(made)) {
        groups_[{made.rule, made.parameter.row}].push_back(&made);
      }
    }
    for (const auto& [key, group] : groups_) {
      judge(key, group);
    }
    tell();
  }

 private:
  /// Of several modules with a parameter of this name, the one that the layer has.
  [[nodiscard]] const family::Rule* row_of(const Made& made) const {
    const auto layer = survey_.modules.find({made.parameter.stage, made.parameter.index});
    const UsualParameter* found = made.rows.size() == 1 ? made.rows.front() : nullptr;
    for (const UsualParameter* row : made.rows) {
      if (layer != survey_.modules.end() && layer->second.contains(row->module)) {
        found = row;
      }
    }
    return found == nullptr ? nullptr : found->rule;
  }

  [[nodiscard]] bool is_whole(const Made& made) const {
    // One tensor for two parts is a fault of its own.
    const bool distinct =
        std::set<std::string>(made.hf.begin(), made.hf.end()).size() == made.hf.size();
    return distinct && !made.hf.empty() &&
           input_.kinds.find(input_.rules.rules[made.rule].kind) != nullptr &&
           std::all_of(made.hf.begin(), made.hf.end(),
                       [this](const std::string& name) { return input_.headers.contains(name); });
  }

  [[nodiscard]] std::vector<Shape> shapes_of(const Made& made) const {
    std::vector<Shape> out;
    for (const std::string& name : made.hf) {
      out.push_back(input_.headers.find(name)->second.shape);
    }
    return out;
  }

  struct Fit {
    bool any = false;
    bool all = true;
  };

  /// Does the line fit one of the group's parameters, and does it fit all? nullopt when it cannot
  /// be chosen: the rule is told of that where it is applied.
  std::optional<Fit> fit_of(const std::vector<Made*>& group, bool row_sizes, bool& took_row) const {
    std::set<std::vector<Shape>> tried;
    Fit fit;
    for (const Made* made : group) {
      const std::vector<Shape> shapes = shapes_of(*made);
      if (!tried.insert(shapes).second) {
        continue;
      }
      const ForeignRule& foreign = input_.rules.rules[made->rule];
      const ForeignKind& kind = *input_.kinds.find(foreign.kind);
      family::Rule rule;
      for (const auto& roles : kind.sources) {
        const std::string* pattern = pattern_for(foreign, roles);
        if (pattern == nullptr) {
          return std::nullopt;
        }
        rule.hf.emplace_back(roles.front(), starred_numbers(*pattern));
      }
      LinePlace place;
      place.row = made->parameter.row;
      place.row_sizes = row_sizes;
      place.parameter = made->parameter.name;
      place.text = made->parameter.text;
      place.vocabulary = made->parameter.vocabulary;
      place.parallelism =
          made->parameter.listed == nullptr ? "" : made->parameter.listed->parallelism;
      place.orientation = input_.options.expert_orientation;
      if (!choose_line(geometry_, input_.kinds, place, foreign, shapes, rule)) {
        return std::nullopt;
      }
      took_row = place.row != nullptr && row_sizes && rule.axes == place.row->axes &&
                 rule.rest == place.row->rest && rule.kind == place.row->kind;
      const bool fits = line_fits(geometry_, input_.kinds, rule, shapes);
      fit.any = fit.any || fits;
      fit.all = fit.all && fits;
    }
    return fit;
  }

  /// What in config.json lets sizes differ as they do in this group: layers of one kind have one
  /// size, or every layer has a structure of its own. "" when nothing does.
  [[nodiscard]] std::string field_of_layers(const std::vector<Made*>& group) const {
    if (input_.config.layers_differ) {
      return "config.json gives each layer a structure of its own";
    }
    for (const auto& by_field : input_.config.layer_kinds) {
      const auto& field = by_field.first;
      const auto& kinds = by_field.second;
      std::map<std::string, std::vector<Shape>> sizes;
      const bool follows = std::all_of(group.begin(), group.end(), [&](const Made* made) {
        const auto layer = made->parameter.index;
        if (made->parameter.stage != family::Stage::Decoder || layer < 0 ||
            layer >= static_cast<std::int64_t>(kinds.size())) {
          return false;
        }
        const std::vector<Shape> shapes = shapes_of(*made);
        return sizes.try_emplace(kinds[static_cast<std::size_t>(layer)], shapes).first->second ==
               shapes;
      });
      if (follows) {
        return fmt::format("layers of one kind by {} of config.json have one size", shown(field));
      }
    }
    return "";
  }

  /// The first tensors of each size.
  [[nodiscard]] std::string sizes_of(const std::vector<Made*>& group) const {
    constexpr std::size_t kShown = 3;
    std::map<std::vector<Shape>, std::string> sizes;
    for (const Made* made : group) {
      sizes.try_emplace(shapes_of(*made), example_of(*made));
    }
    std::vector<std::string> out;
    for (const auto& [shapes, example] : sizes) {
      if (out.size() < kShown) {
        out.push_back(example);
      }
    }
    return join(out, "; ") +
           (sizes.size() > kShown ? " and " + counted(sizes.size() - kShown, "more size") : "");
  }

  /// Sizes that differ from layer to layer, as a field of the config lets them: which of them the
  /// usual fields mean is a guess.
  void doubt_layers(const Fit& fit, const ForeignRule& rule, const std::vector<Made*>& group) {
    const std::string field = fit.all ? "" : field_of_layers(group);
    if (field.empty()) {
      return;
    }
    survey_.unfit.emplace(
        rule.position,
        fail(Code::SizeInDoubt,
             fmt::format("the tensors of rule {} have other sizes in other layers", shown(rule.id)))
            .at(rule.source)
            .fact(field)
            .pair(sizes_of(group), "one size for the tensors of a rule")
            .advise("judge it with a family that knows the sizes of each layer (--family)"));
  }

  /// The built model says what the sizes are: no field is needed, nor doubted.
  [[nodiscard]] static bool shapes_are_listed(const std::vector<Made*>& group) {
    return std::all_of(group.begin(), group.end(), [](const Made* made) {
      return made->parameter.listed != nullptr && made->parameter.listed->shape.has_value();
    });
  }

  /// Layers of different sizes, each as the built model lists it: the sizes of the tensors hold.
  bool listed_fits_by_tensor(const std::vector<Made*>& group) const {
    if (!shapes_are_listed(group)) {
      return false;
    }
    bool took_row = false;
    const auto fits = fit_of(group, false, took_row);
    if (!fits || !fits->all) {
      return false;
    }
    for (Made* made : group) {
      made->parameter.row_sizes = false;
    }
    return true;
  }

  void judge(const GroupKey& key, const std::vector<Made*>& group) {
    bool took_row = false;
    const auto fits = fit_of(group, true, took_row);
    const ForeignRule& rule = input_.rules.rules[key.first];
    if (!fits) {
      return;
    }
    if (fits->any) {
      if (fits->all || !listed_fits_by_tensor(group)) {
        doubt_layers(*fits, rule, group);
      }
      return;
    }
    if (took_row) {
      if (!shapes_are_listed(group)) {
        FieldDoubt& doubt = doubts_[numbers_of(*key.second)];
        doubt.rules.push_back(shown(rule.id));
        doubt.example = doubt.example.empty() ? example_of(*group.front()) : doubt.example;
      }
      for (Made* made : group) {
        made->parameter.row_sizes = false;
      }
      const auto by_tensor = fit_of(group, false, took_row);
      if (!by_tensor) {
        return;
      }
      if (by_tensor->any) {
        doubt_layers(*by_tensor, rule, group);
        return;
      }
    }
    survey_.unfit.emplace(
        key.first,
        fail(Code::SizeInDoubt,
             fmt::format("the numbers that config.json gives for kind {} fit no tensor of rule {}",
                         shown(rule.kind), shown(rule.id)))
            .at(rule.source)
            .pair(example_of(*group.front()), numbers_of_kind(*group.front()))
            .advise("correct config.json, give the numbers with --set, or name a built-in family "
                    "with --family"));
  }

  [[nodiscard]] std::string example_of(const Made& made) const {
    std::vector<std::string> out;
    for (const std::string& name : made.hf) {
      out.push_back(
          fmt::format("{} {}", shown(name), shape_text(input_.headers.find(name)->second.shape)));
    }
    return join(out, ", ");
  }

  void add_numbers(const std::string& expression, std::vector<std::string>& out) const {
    for (const std::string& word : family::identifiers(expression)) {
      const auto number = geometry_.get(word);
      const auto origin = geometry_.origin.find(word);
      if (number && word != "t") {
        std::string text =
            fmt::format("{}={}", origin == geometry_.origin.end() ? word : origin->second, *number);
        if (std::find(out.begin(), out.end(), text) == out.end()) {
          out.push_back(std::move(text));
        }
      }
    }
  }

  /// "intermediate_size=40 hidden_size=24": what the row's sizes are made of.
  [[nodiscard]] std::string numbers_of(const family::Rule& row) const {
    std::vector<std::string> out;
    for (const auto& [axis, expression] : row.axes) {
      add_numbers(expression, out);
    }
    for (const std::string& expression : row.rest) {
      add_numbers(expression, out);
    }
    return join(out, " ");
  }

  [[nodiscard]] std::string numbers_of_kind(const Made& made) const {
    std::vector<std::string> out;
    const ForeignKind& kind = *input_.kinds.find(input_.rules.rules[made.rule].kind);
    for (const auto& [axis, expression] : kind.line.axes) {
      add_numbers(expression, out);
    }
    return join(out, " ");
  }

  struct FieldDoubt {
    std::vector<std::string> rules;
    std::string example;
  };

  /// One question for each set of numbers.
  void tell() {
    for (const auto& [numbers, doubt] : doubts_) {
      OpenQuestion question;
      question.code = Code::SizeInDoubt;
      question.subject = numbers;
      question.message =
          fmt::format("config.json says {}, and no tensor of {} {} fits that", numbers,
                      noun_after(doubt.rules.size(), "rule"), join(doubt.rules, ", "));
      question.found = doubt.example;
      question.wanted =
          "tensors of the size that config.json gives, or another field for this module";
      question.help =
          "correct config.json, give the number with --set, or list the parameters with their "
          "shapes in model.parameters of the rules file";
      survey_.questions.push_back(std::move(question));
    }
  }

  const SurveyInput& input_;
  Survey& survey_;
  model::Geometry geometry_;
  std::map<GroupKey, std::vector<Made*>> groups_;
  std::map<std::string, FieldDoubt> doubts_;
};

}  // namespace

void settle_sizes(const SurveyInput& input, Survey& survey) {
  SizeJudge(input, survey).run();
}

}  // namespace bv::foreign
