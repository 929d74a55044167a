// What is wrong with one foreign rule by itself.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/foreign/foreign_kinds.hpp"
#include "core/foreign/numbered.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

Error unknown_kind(const ForeignKinds& kinds, const ForeignRule& rule) {
  const auto near = meant(rule.kind, kinds.offered());
  return fail(Code::RuleKindUnknown, fmt::format("{} has the kind {}, which is not known here",
                                                 named(rule), shown(rule.kind)))
      .at(rule.source)
      .fact("megatron  " + shown(rule.megatron))
      .pair(shown(rule.kind), "a kind or mapping class that bridge-verify rules list shows")
      .advise(near
                  ? fmt::format("did you mean {}?", *near)
                  : "if the class only changes the export, write the kind of its base class: auto, "
                    "qkv, gated_mlp, ...");
}

/// The class has the name of a kind, and the library under test does something else by it.
Error other_than_its_kind(const ForeignRule& rule) {
  return fail(Code::RuleKindUnknown,
              fmt::format("{}: {} was seen to do something else than the kind of that name",
                          named(rule), rule.upstream_class))
      .at(rule.source)
      .fact("megatron  " + shown(rule.megatron))
      .pair(rule.differs, "the elements where the released class puts them")
      .advise(
          "compare param_mapping.py of this library with the release, or write what the class "
          "does as the rule's \"layout\"");
}

/// A name for every part of the kind, and none besides.
void check_parts(const ForeignRule& rule, const ForeignKind& kind, std::vector<RuleFault>& out) {
  std::vector<std::string> wanted;
  std::vector<std::string> missing;
  for (const auto& roles : kind.sources) {
    wanted.push_back(roles.front());
    if (pattern_for(rule, roles) == nullptr) {
      missing.push_back(roles.front());
    }
  }
  if (missing.empty() && rule.hf.size() == kind.sources.size()) {
    return;
  }
  std::vector<std::string> found;
  for (const auto& [role, name] : rule.hf) {
    found.push_back(role.empty() ? "one name" : shown(role));
  }
  found.resize(std::min<std::size_t>(found.size(), 8));
  out.push_back(
      {fail(Code::RuleMalformed,
            missing.empty() ? fmt::format("{} of kind {} has {} HF names", named(rule),
                                          shown(rule.kind), rule.hf.size())
                            : fmt::format("{} of kind {} has no HF name for {}", named(rule),
                                          shown(rule.kind), join(missing, ", ")))
           .at(rule.source)
           .pair(join(found, ", "), join(wanted, ", "))
           .advise("give one HF name for each part of the kind")});
}

/// Megatron-Bridge applies permute_dims in both directions
/// (docs/reference/semantics.md#which-parallelism): only a permutation that is its own inverse
/// comes back.
void check_permutation(const ForeignRule& rule, std::vector<RuleFault>& out) {
  std::vector<std::int64_t> twice;
  for (const std::int64_t dimension : rule.permutation) {
    twice.push_back(rule.permutation[static_cast<std::size_t>(dimension)]);
  }
  if (!std::is_sorted(twice.begin(), twice.end())) {
    out.push_back(
        {fail(Code::RuleMalformed,
              fmt::format("{} permutes the dimensions by [{}], which does not undo itself",
                          named(rule), fmt::join(rule.permutation, ", ")))
             .at(rule.source)
             .fact("Megatron-Bridge applies the same permutation on import and on export")
             .pair(fmt::format("[{}] when applied twice", fmt::join(twice, ", ")),
                   "the order of the checkpoint, as with [1, 0]")
             .advise("exchange pairs of dimensions only; any other export is wrong")});
  }
}

/// The stars of a name marked below it.
std::string marks_below(std::string_view name) {
  std::string out;
  for (const char c : name) {
    out += c == '*' ? '^' : ' ';
  }
  out.erase(out.find_last_not_of(' ') + 1);
  return out;
}

/// The name, and below it its stars, if it has any.
void add_marked(const std::string& label, const std::string& name, Error& error) {
  error.facts.push_back(label + name);
  if (const std::string marks = marks_below(name); !marks.empty()) {
    error.facts.push_back(std::string(label.size(), ' ') + marks);
  }
}

/// A computed name is made of every wildcard of the Megatron name, and of no other: a wildcard that
/// it leaves out would make many parameters of one tensor.
void check_captures(const ForeignRule& rule, const ForeignKind& kind, const std::string& pattern,
                    std::vector<RuleFault>& out) {
  const std::size_t in_rule = wildcards(rule.megatron);
  const std::vector<std::size_t> made_of = captures_in(pattern);
  const bool all = made_of.size() == in_rule || (kind.packed && made_of.size() + 1 == in_rule);
  if (all && (made_of.empty() || made_of.back() + 1 == made_of.size())) {
    return;
  }
  std::vector<std::string> names;
  for (const std::size_t one : made_of) {
    names.push_back(fmt::format("c{}", one));
  }
  out.push_back({fail(Code::WildcardCount,
                      fmt::format("{}: {} in the Megatron name, and the HF name is made of {}",
                                  named(rule), counted(in_rule, "wildcard"), join(names, ", ")))
                     .at(rule.source)
                     .fact("megatron  " + shown(rule.megatron))
                     .pair(shown(pattern), "a name that is made of each of them")
                     .advise("write a number for each wildcard: c0 is the first")});
}

void check_wildcards(const ForeignRule& rule, const ForeignKind& kind,
                     std::vector<RuleFault>& out) {
  const std::size_t in_rule = wildcards(rule.megatron);
  for (const auto& [role, pattern] : rule.hf) {
    if (is_numbered(pattern)) {
      check_captures(rule, kind, pattern, out);
      continue;
    }
    const std::size_t in_pattern = wildcards(pattern);
    if (in_rule != in_pattern && !(kind.packed && in_pattern < in_rule)) {
      const std::string megatron = shown(rule.megatron);
      const std::string hf = shown(pattern);
      Error error = fail(Code::WildcardCount,
                         fmt::format("{}: {} in the Megatron name, {} in the HF name", named(rule),
                                     counted(in_rule, "wildcard"), in_pattern))
                        .at(rule.source)
                        .pair(fmt::format("{} in {}", in_pattern, hf),
                              fmt::format("{} in {}", in_rule, megatron))
                        .advise("write as many * on both sides");
      add_marked("megatron  ", megatron, error);
      add_marked("hf        ", hf, error);
      out.push_back({std::move(error)});
    } else if ((has_double_star(pattern) || has_double_star(rule.megatron)) &&
               (mixes_wildcards(pattern) || mixes_wildcards(rule.megatron))) {
      out.push_back({fail(Code::WildcardCount, fmt::format("{} mixes * and **", named(rule)))
                         .at(rule.source)
                         .pair(shown(mixes_wildcards(pattern) ? pattern : rule.megatron),
                               "one sort of wildcard: ** is filled before *, so captures swap")
                         .advise("write a rule for each name that ** would match")});
    }
  }
}

}  // namespace

const std::string* pattern_for(const ForeignRule& rule, const std::vector<std::string>& roles) {
  for (const auto& [role, pattern] : rule.hf) {
    const bool alone = rule.hf.size() == 1;
    if (alone || std::find(roles.begin(), roles.end(), role) != roles.end()) {
      return &pattern;
    }
  }
  return nullptr;
}

Error unknown_module(const ForeignRule& rule, std::string_view megatron) {
  return fail(Code::RuleModuleUnknown,
              fmt::format("{}: how {} is cut over the ranks is not known here", named(rule),
                          shown(megatron)))
      .at(rule.source)
      .pair("kind auto, on a module that is not in the table",
            "a kind, or the parallelism in model.parameters")
      .advise("write column, row or replicated as the kind of this rule");
}

std::vector<RuleFault> rule_faults(const ForeignKinds& kinds, const ForeignRule& rule,
                                   bool parallelism_is_listed) {
  std::vector<RuleFault> out;
  const ForeignKind* kind = kinds.find(rule.kind);
  if (kind == nullptr) {
    out.push_back({unknown_kind(kinds, rule), false});
    return out;
  }
  if (!rule.differs.empty()) {
    out.push_back({other_than_its_kind(rule), false});
    return out;
  }
  check_parts(rule, *kind, out);
  check_permutation(rule, out);
  check_wildcards(rule, *kind, out);
  // Behind ** stands a module that only a model can name.
  const std::string example =
      fill_pattern(rule.megatron, std::vector<std::string>(wildcards(rule.megatron), "0"));
  if (out.empty() && kind->is_auto && !parallelism_is_listed && !has_double_star(rule.megatron) &&
      kinds.parallelism(example).empty()) {
    out.push_back({unknown_module(rule, rule.megatron), false});
  }
  return out;
}

}  // namespace bv::foreign
