#include "core/model/fitted.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/model/config_field.hpp"

namespace bv::model {
namespace {

using Flags = std::set<std::string, std::less<>>;
using Sizes = std::map<std::string, std::int64_t, std::less<>>;

void add_words(const std::string& expression, std::set<std::string>& out) {
  for (std::string& word : family::identifiers(expression)) {
    out.insert(std::move(word));
  }
}

std::set<std::string> words_of_rule(const family::Rule& rule) {
  std::set<std::string> out;
  for (const auto& [axis, size] : rule.axes) {
    add_words(size, out);
  }
  for (const std::string& size : rule.rest) {
    add_words(size, out);
  }
  add_words(rule.experts, out);
  for (const auto& [source, extents] : rule.shapes) {
    for (const std::string& extent : extents) {
      add_words(extent, out);
    }
  }
  return out;
}

/// `variable` as a number: "{D}layers.{j}.w" with j = 1 is "{D}layers.1.w".
std::string with_number(const std::string& text, const std::string& variable, std::size_t number) {
  const auto pieces = family::split_template(text);
  BV_ASSERT(pieces.has_value());  // check_family has split it before
  std::string out;
  for (const family::TemplatePiece& piece : *pieces) {
    if (!piece.braces) {
      out += piece.text;
      continue;
    }
    if (piece.text == variable) {
      out += std::to_string(number);
      continue;
    }
    std::string word;
    std::string inside;
    for (const char c : piece.text + ' ') {
      if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_') {
        word += c;
        continue;
      }
      inside += word == variable ? std::to_string(number) : word;
      inside += c;
      word.clear();
    }
    inside.pop_back();
    out += "{" + inside + "}";
  }
  return out;
}

/// The layers that have one set of sizes.
struct Group {
  Sizes sizes;
  std::vector<std::int64_t> layers;
};

class Fitter {
 public:
  Fitter(const family::FamilyPtr& family, const nlohmann::json& config, const Geometry& geometry)
      : whole_(family), family_(*family), config_(config), geometry_(geometry) {}

  Result<family::FamilyPtr> run() {
    auto out = std::make_shared<family::Family>(family_);
    out->fitted = true;
    out->unfitted = whole_;
    out->rules.clear();
    for (family::Section& section : out->sections) {
      BV_TRY(unrolled, unroll(section));
      section.first_rule = out->rules.size();
      for (const family::Rule& rule : unrolled) {
        split(section, rule, out->rules);
      }
      section.end_rule = out->rules.size();
      BV_CHECK(unroll_one_sided(section));
      std::vector<family::ConstraintRule> constraints;
      for (const family::ConstraintRule& rule : section.constraints) {
        split(section, rule, constraints);
      }
      section.constraints = std::move(constraints);
      section.inner = {};
    }
    return family::FamilyPtr(std::move(out));
  }

 private:
  Result<std::vector<family::Rule>> unroll(const family::Section& section) const {
    return unroll_rows(section,
                       {family_.rules.begin() + static_cast<std::ptrdiff_t>(section.first_rule),
                        family_.rules.begin() + static_cast<std::ptrdiff_t>(section.end_rule)});
  }

  Status unroll_one_sided(family::Section& section) const {
    std::vector<family::OneSided> out;
    for (const family::OneSided& row : section.one_sided) {
      BV_TRY(rules, unroll_rows(section, {row.rule}));
      for (family::Rule& rule : rules) {
        out.push_back({std::move(rule), row.because});
      }
    }
    section.one_sided = std::move(out);
    return Done{};
  }

  Result<std::vector<family::Rule>> unroll_rows(const family::Section& section,
                                                std::vector<family::Rule> rules) const {
    if (section.inner.variable.empty()) {
      return rules;
    }
    std::vector<std::string> words = section.inner.words;
    BV_TRY(list, first_list(family_, config_, section.inner.lists));
    if (list) {
      BV_TRY(stated, layer_words(*list->second, list->first, ""));
      words = stated;
    }
    std::vector<family::Rule> out;
    for (std::size_t j = 0; j < words.size(); ++j) {
      BV_TRY(flags, flags_of(words[j], list ? list->first : section.title));
      if (j == 0) {
        flags.insert(std::string(family::kFirstInner));
      }
      if (j + 1 == words.size()) {
        flags.insert(std::string(family::kLastInner));
      }
      for (const family::Rule& rule : rules) {
        if (auto inner = at_inner(rule, section.inner.variable, j, flags)) {
          out.push_back(*std::move(inner));
        }
      }
    }
    return out;
  }

  /// The flags that have the word among their yes; a word that no flag knows has no rules.
  Result<Flags> flags_of(const std::string& word, const std::string& path) const {
    Flags out;
    bool known = false;
    for (const family::LayerFlag& flag : family_.layer_flags) {
      const bool yes = std::ranges::find(flag.equals, word) != flag.equals.end();
      known = known || yes || std::ranges::find(flag.others, word) != flag.others.end();
      if (yes) {
        out.insert(flag.name);
      }
    }
    if (!known) {
      return fail(Code::ConfigField,
                  fmt::format("config.json {} names the layer kind \"{}\"", path, escaped(word)))
          .at("config.json")
          .pair(escaped(word), "a layer kind of the family")
          .advise(fmt::format("family {} has no rules for such a layer; give --rules for it",
                              family_.name));
    }
    return out;
  }

  /// The rule at inner repetition `j`; nullopt where its conditions on that rule it out.
  std::optional<family::Rule> at_inner(const family::Rule& rule, const std::string& variable,
                                       std::size_t j, const Flags& flags) const {
    family::Rule out = rule;
    out.when.clear();
    for (const std::string& word : rule.when) {
      const bool wanted = !word.starts_with('!');
      const std::string condition = wanted ? word : word.substr(1);
      if (!family_.is_layer_flag(condition) && condition != family::kFirstInner &&
          condition != family::kLastInner) {
        out.when.push_back(word);
      } else if (flags.contains(condition) != wanted) {
        return std::nullopt;
      }
    }
    out.id = j == 0 ? rule.id : fmt::format("{}.{}", rule.id, j);
    for (std::string* name : {&out.megatron, &out.megatron_local, &out.megatron_sequential}) {
      *name = with_number(*name, variable, j);
    }
    for (auto& [source, name] : out.hf) {
      name = with_number(name, variable, j);
    }
    return out;
  }

  /// The sizes among `words` that differ from the model's, by layer, in the order of the layers.
  std::vector<Group> groups(const family::Section& section, const std::vector<std::string>& when,
                            const std::set<std::string>& words) const {
    std::vector<Group> out;
    const std::int64_t layers = section.layered ? std::ssize(geometry_.layer_sizes)
                                : section.stage == family::Stage::Mtp
                                    ? std::max<std::int64_t>(1, std::ssize(geometry_.mtp_flags))
                                    : 1;
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      const Flags flags = section_flags(section, geometry_, layer);
      if (!family::holds(family_, when, {&geometry_.symbols, &flags})) {
        continue;
      }
      Sizes sizes;
      for (const auto& [symbol, size] : section.layered
                                            ? geometry_.layer_sizes[static_cast<std::size_t>(layer)]
                                            : of_section(flags)) {
        if (words.contains(symbol) && geometry_.get(symbol) != size) {
          sizes[symbol] = size;
        }
      }
      const auto known =
          std::ranges::find_if(out, [&](const Group& group) { return group.sizes == sizes; });
      Group& group = known == out.end() ? out.emplace_back(Group{sizes, {}}) : *known;
      group.layers.push_back(layer);
    }
    return out;
  }

  /// Sizes of a section whose flags are the same in every repetition: those that stand in no list.
  Sizes of_section(const Flags& flags) const {
    Sizes out;
    for (const family::LayerSize& size : family_.layer_sizes) {
      if (size.list.path.empty() &&
          family::holds(family_, size.when, {&geometry_.symbols, &flags})) {
        if (const auto value = family::evaluate(size.value, geometry_.symbols)) {
          out[size.symbol] = *value;
        }
      }
    }
    return out;
  }

  void split(const family::Section& section, const family::Rule& rule,
             std::vector<family::Rule>& out) const {
    const std::vector<Group> found = groups(section, rule.when, words_of_rule(rule));
    if (found.size() < 2) {
      out.push_back(rule);
      out.back().sizes = found.empty() ? Sizes{} : found.front().sizes;
      return;
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
      family::Rule one = rule;
      one.id = i == 0 ? rule.id : fmt::format("{}.{}", rule.id, i);
      one.sizes = found[i].sizes;
      one.layers = found[i].layers;
      out.push_back(std::move(one));
    }
  }

  void split(const family::Section& section, const family::ConstraintRule& rule,
             std::vector<family::ConstraintRule>& out) const {
    std::set<std::string> words;
    add_words(rule.constraint.dividend, words);
    for (const Group& group : groups(section, rule.when, words)) {
      out.push_back(rule);
      out.back().constraint.sizes = group.sizes;
    }
  }

  const family::FamilyPtr& whole_;
  const family::Family& family_;
  const nlohmann::json& config_;
  const Geometry& geometry_;
};

}  // namespace

Result<family::FamilyPtr> fitted_to(const family::FamilyPtr& family, const nlohmann::json& config,
                                    const Geometry& geometry) {
  const bool inner = std::ranges::any_of(family->sections, [](const family::Section& section) {
    return !section.inner.variable.empty();
  });
  if (family->fitted || (family->layer_sizes.empty() && !inner)) {
    return family;
  }
  return Fitter(family, config, geometry).run();
}

}  // namespace bv::model
