#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/family/family_parse.hpp"

namespace bv::family {
namespace {

constexpr std::size_t kNameMax = 4096;

/// What the braces and expressions at one place may name.
struct Scope {
  const Family* family = nullptr;
  std::string variable;
  bool experts = false;
  std::string inner = {};  // variable of Section::inner
};

bool is_variable(const Scope& scope, std::string_view word) {
  const std::string_view plain = word.starts_with('#') ? word.substr(1) : word;
  return (!scope.variable.empty() && plain == scope.variable) ||
         (scope.experts && (word == "e" || words_in(word).size() > 1)) ||
         (!scope.inner.empty() && word == scope.inner);
}

Error problem(const std::string& source, std::string message, std::string found,
              std::string wanted) {
  return fail(Code::RulesInvalid, fmt::format("{}: {}", source, std::move(message)))
      .pair(std::move(found), std::move(wanted))
      .advise("correct this rule of the rules file");
}

std::vector<std::string> symbol_names(const Family& family) {
  std::vector<std::string> names;
  for (const SymbolRule& symbol : family.symbols) {
    names.push_back(symbol.name);
  }
  return names;
}

Status check_expression(const Family& family, const std::string& source,
                        const std::string& expression, const std::vector<std::string>& extra) {
  for (const std::string& word : identifiers(expression)) {
    if (std::find(extra.begin(), extra.end(), word) != extra.end() ||
        family.symbol(word) != nullptr) {
      continue;
    }
    const auto near = nearest(word, symbol_names(family));
    return problem(source,
                   fmt::format("\"{}\" uses the unknown symbol {}", escaped(expression), word),
                   word, near ? fmt::format("perhaps {}", *near) : "a symbol of the family");
  }
  // Every symbol reads as 1 here: this finds bad syntax; divisions are checked with real numbers.
  const auto syntax =
      evaluate_with(expression, [](std::string_view) { return std::optional<std::int64_t>(1); });
  if (!syntax && syntax.error().code == Code::RulesInvalid) {
    return problem(source, syntax.error().message, syntax.error().found, syntax.error().wanted);
  }
  return Done{};
}

Status check_template(const Scope& scope, const std::string& source, const std::string& text,
                      bool expressions) {
  const auto pieces = split_template(text);
  if (!pieces) {
    return problem(source, fmt::format("the braces of \"{}\" do not pair up", escaped(text)),
                   escaped(text), "{name} with a name inside");
  }
  std::size_t length = text.size();  // with its prefixes
  bool has_variable = scope.variable.empty();
  bool has_expert = false;
  for (const TemplatePiece& piece : *pieces) {
    const auto prefix =
        piece.braces ? scope.family->prefixes.find(piece.text) : scope.family->prefixes.end();
    length += prefix == scope.family->prefixes.end() ? 0 : prefix->second.size();
    if (!piece.braces || prefix != scope.family->prefixes.end()) {
      continue;
    }
    std::vector<std::string> words = identifiers(piece.text);
    has_expert = has_expert || names_expert(piece.text);
    has_variable =
        has_variable || std::find(words.begin(), words.end(), scope.variable) != words.end();
    if (is_variable(scope, piece.text)) {
      continue;
    }
    if (!expressions) {
      return problem(source,
                     fmt::format("{{{}}} in \"{}\" is neither a prefix nor a variable",
                                 escaped(piece.text), escaped(text)),
                     escaped(piece.text), "a prefix, the section's variable or {e}");
    }
    BV_CHECK(check_expression(*scope.family, source, piece.text,
                              {scope.variable, scope.inner, scope.experts ? "e" : ""}));
  }
  if (length > kNameMax) {
    return problem(source, "a name is too long with its prefixes", counted(length, "character"),
                   fmt::format("at most {}", kNameMax));
  }
  if (!expressions && !has_variable) {  // two repetitions would make one parameter
    return problem(
        source, fmt::format("\"{}\" is the same for every {{{}}}", escaped(text), scope.variable),
        "no such variable", fmt::format("{{{}}} in the name", scope.variable));
  }
  if (has_expert && !scope.experts) {
    return problem(source,
                   fmt::format("\"{}\" has {{e}}, but the rule has no experts", escaped(text)),
                   "{e}", "\"over\": {\"e\": ...} or an axis E");
  }
  return Done{};
}

Status check_conditions(const Family& family, const std::string& source,
                        const std::vector<std::string>& when) {
  for (const std::string& word : when) {
    const std::string_view name =
        word.starts_with('!') ? std::string_view(word).substr(1) : std::string_view(word);
    if (!family.is_layer_flag(name) && family.symbol(name) == nullptr && name != kFirstInner &&
        name != kLastInner) {
      return problem(source,
                     fmt::format("\"when\" names {}, which is neither a layer flag nor a symbol",
                                 escaped(name)),
                     escaped(word), "a layer flag or a symbol, with ! for its opposite");
    }
  }
  return Done{};
}

bool has_expert(const std::string& text) {
  const auto pieces = split_template(text);
  return pieces && std::any_of(pieces->begin(), pieces->end(), [](const TemplatePiece& piece) {
           return piece.braces && names_expert(piece.text);
         });
}

Status check_rule(const Family& family, const Section& section, const Rule& rule,
                  bool makes = true) {
  const Scope scope{&family, section.variable, !rule.experts.empty(), section.inner.variable};
  for (const std::string* name :
       {&rule.megatron, &rule.megatron_local, &rule.megatron_sequential}) {
    if (name->empty() && (name != &rule.megatron || !makes)) {
      continue;
    }
    BV_CHECK(check_template(scope, rule.source, *name, false));
    if (scope.experts && !has_expert(*name)) {
      return problem(rule.source,
                     fmt::format("\"{}\" is the same for every expert", escaped(*name)), "no {e}",
                     "{e} in the Megatron name");
    }
  }
  for (const auto& [source, name] : rule.hf) {
    BV_CHECK(check_template(scope, rule.source, name, true));
    if (rule.per_expert != has_expert(name)) {
      return problem(rule.source,
                     fmt::format("\"{}\" and the rule disagree about experts", escaped(name)),
                     rule.per_expert ? "no {e}" : "{e}",
                     rule.per_expert ? "{e} in the HF name" : "\"over\": {\"e\": ...}");
    }
  }
  for (const auto& [axis, size] : rule.axes) {
    BV_CHECK(check_expression(family, rule.source, size, {"t"}));
  }
  for (const std::string& size : rule.rest) {
    BV_CHECK(check_expression(family, rule.source, size, {"t"}));
  }
  for (const auto& [source, extents] : rule.shapes) {
    for (const std::string& extent : extents) {
      BV_CHECK(check_expression(family, rule.source, extent, {}));
    }
  }
  BV_CHECK(check_expression(family, rule.source, rule.experts.empty() ? "0" : rule.experts, {}));
  return check_conditions(family, rule.source, rule.when);
}

Status check_section(const Family& family, const Section& section) {
  const std::string source = fmt::format("{}: section {}", family.file, section.title);
  if (!section.over.empty()) {
    BV_CHECK(check_expression(family, source, section.over, {}));
  }
  for (const std::string& flag : section.flags) {
    BV_CHECK(check_conditions(family, source, {flag}));
  }
  for (const ConstraintRule& rule : section.constraints) {
    BV_CHECK(check_conditions(family, source, rule.when));
    BV_CHECK(check_expression(family, source, rule.constraint.dividend, {}));
  }
  for (const StageStart& one : section.stage_starts) {
    BV_CHECK(check_conditions(family, source, {one.flag}));
  }
  for (const Copy& copy : section.copies) {
    BV_CHECK(check_conditions(family, source, copy.when));
  }
  BV_CHECK(check_conditions(family, source, section.own_keys_when));
  for (const StoredModule& one : section.stored_modules) {
    BV_CHECK(check_conditions(family, source, one.when));
  }
  for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
    BV_CHECK(check_rule(family, section, family.rules[i]));
  }
  for (const OneSided& row : section.one_sided) {
    BV_CHECK(check_rule(family, section, row.rule, false));
  }
  return Done{};
}

Status check_carried(const Family& family, const Carried& carried) {
  const std::string source = fmt::format("{}: carried {}", family.file, carried.hf.front());
  BV_CHECK(check_conditions(family, source, carried.when));
  for (const CarriedPart& part : carried.parts) {
    BV_CHECK(check_conditions(family, source, part.when));
    BV_CHECK(check_expression(family, source, part.over.empty() ? "0" : part.over, {}));
    for (const auto& [name, extents] : part.tensors) {
      for (const std::string& extent : extents) {
        BV_CHECK(check_expression(family, source, extent == kAnyExtent ? "1" : extent, {}));
      }
    }
  }
  return Done{};
}

Status check_symbols(const Family& family) {
  for (const SymbolRule& symbol : family.symbols) {
    const std::string source = fmt::format("{}: symbol {}", symbol.file, symbol.name);
    for (const auto& text :
         {symbol.default_value, symbol.value, symbol.null_value, symbol.negative_value}) {
      if (text && !text->empty()) {
        BV_CHECK(check_expression(family, source, *text, {}));
      }
    }
  }
  for (const LayerFlag& flag : family.layer_flags) {
    const std::string source = fmt::format("{}: layer flag {}", family.file, flag.name);
    for (const std::string* expression : {&flag.below, &flag.from, &flag.behind}) {
      if (!expression->empty()) {
        BV_CHECK(check_expression(family, source, *expression, {}));
      }
    }
  }
  return Done{};
}

Status check_layer_sizes(const Family& family) {
  for (const LayerSize& size : family.layer_sizes) {
    BV_CHECK(check_conditions(family, size.source, size.when));
    BV_CHECK(check_expression(family, size.source, size.symbol, {}));
    BV_CHECK(check_expression(
        family, size.source, size.value,
        size.list.path.empty() ? std::vector<std::string>{} : std::vector<std::string>{"entry"}));
  }
  return Done{};
}

}  // namespace

Status check_family(const Family& family) {
  BV_CHECK(check_symbols(family));
  BV_CHECK(check_layer_sizes(family));
  for (const Carried& carried : family.carried) {
    BV_CHECK(check_carried(family, carried));
  }
  for (const Ignored& one : family.ignore_hf) {
    BV_CHECK(check_conditions(
        family, fmt::format("{}: ignore_hf {}", family.file, one.glob),
        one.mtp.empty() ? std::vector<std::string>{} : std::vector<std::string>{one.mtp}));
  }
  for (const MustRule& must : family.musts) {
    std::vector<std::string> names = must.equal;
    names.insert(names.end(), must.divides.begin(), must.divides.end());
    if (!must.symbol.empty()) {
      names.push_back(must.symbol);
    }
    BV_CHECK(check_conditions(family, fmt::format("{}: must", family.file), names));
  }
  for (const Section& section : family.sections) {
    BV_CHECK(check_section(family, section));
  }
  return Done{};
}

}  // namespace bv::family
