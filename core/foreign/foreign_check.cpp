// What is wrong with one foreign rule by itself.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {
namespace {

/// A name that a pattern takes: every wildcard is a number.
std::string example_of(std::string_view pattern) {
  return fill_pattern(pattern, std::vector<std::string>(wildcards(pattern), "0"));
}

void check_parts(const ForeignRule& rule, const ForeignKind& kind, std::vector<Error>& out) {
  const auto count = fmt::format("{} names", rule.hf.size());
  for (const auto& roles : kind.sources) {
    if (pattern_for(rule, roles) == nullptr) {
      out.push_back(
          fail(Code::RulesInvalid, fmt::format("rule {} of kind {} has no HF name for \"{}\"",
                                               rule.id, escaped(rule.kind), roles.front()))
              .at(rule.source)
              .pair(count, fmt::format("{} names", kind.sources.size()))
              .advise("give one name for each part of the kind"));
    }
  }
  if (out.empty() && rule.hf.size() != kind.sources.size()) {
    std::vector<std::string> wanted;
    for (const auto& roles : kind.sources) {
      wanted.push_back(roles.front());
    }
    out.push_back(fail(Code::RulesInvalid, fmt::format("rule {} of kind {} has {} HF names",
                                                       rule.id, escaped(rule.kind), rule.hf.size()))
                      .at(rule.source)
                      .pair(count, join(wanted, ", "))
                      .advise("give one name for each part of the kind"));
  }
}

/// Megatron-Bridge applies permute_dims in both directions (mapping-semantics 5.5): only a
/// permutation that is its own inverse comes back.
void check_permutation(const ForeignRule& rule, std::vector<Error>& out) {
  std::vector<std::int64_t> twice;
  for (const std::int64_t dimension : rule.permutation) {
    twice.push_back(rule.permutation[static_cast<std::size_t>(dimension)]);
  }
  if (!std::is_sorted(twice.begin(), twice.end())) {
    out.push_back(
        fail(Code::RulesInvalid,
             fmt::format("rule {} permutes the dimensions by [{}], which is not its own inverse",
                         rule.id, fmt::join(rule.permutation, ", ")))
            .at(rule.source)
            .fact("Megatron-Bridge applies the same permutation on import and on export")
            .pair(fmt::format("[{}] when applied twice", fmt::join(twice, ", ")),
                  "the order of the checkpoint, as with [1, 0]")
            .advise("let pairs of dimensions change places; any other export is wrong"));
  }
}

void check_wildcards(const ForeignRule& rule, const ForeignKind& kind, std::vector<Error>& out) {
  const std::size_t here = wildcards(rule.megatron);
  for (const auto& [role, pattern] : rule.hf) {
    const std::size_t there = wildcards(pattern);
    if (here != there && !(kind.packed && there < here)) {
      out.push_back(fail(Code::WildcardCount,
                         fmt::format("{} wildcard{} in the Megatron name, {} in the HF name", here,
                                     here == 1 ? "" : "s", there))
                        .at(rule.source)
                        .fact("megatron  " + escaped(rule.megatron))
                        .fact("hf        " + escaped(pattern))
                        .pair(fmt::format("{} in {}", there, escaped(pattern)),
                              fmt::format("{} in {}", here, escaped(rule.megatron)))
                        .advise("write as many * on both sides"));
    }
    const bool any =
        pattern.find("**") != std::string::npos || rule.megatron.find("**") != std::string::npos;
    if (any && (mixes_wildcards(pattern) || mixes_wildcards(rule.megatron))) {
      out.push_back(
          fail(Code::WildcardCount, fmt::format("rule {} mixes * and **", rule.id))
              .at(rule.source)
              .pair(escaped(mixes_wildcards(pattern) ? pattern : rule.megatron),
                    "wildcards of one kind: ** are filled before *, so captures change places")
              .advise("write a rule for each name that ** would match"));
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
  return fail(Code::RulesInvalid,
              fmt::format("rule {}: no parallelism is known for {}", rule.id, escaped(megatron)))
      .at(rule.source)
      .pair("kind auto on a module that the table of modules does not hold",
            "a kind that says how the parameter is cut")
      .advise("write column, row or replicated as the kind of this rule");
}

std::vector<Error> rule_faults(const ForeignKinds& kinds, const ForeignRules& rules,
                               const ForeignRule& rule) {
  std::vector<Error> out;
  auto kind = kind_of(kinds, rules, rule);
  if (!kind) {
    out.push_back(std::move(kind).error());
    return out;
  }
  check_parts(rule, **kind, out);
  check_permutation(rule, out);
  check_wildcards(rule, **kind, out);
  // Behind ** stands a module that only a model can name.
  const std::string example = example_of(rule.megatron);
  if ((*kind)->is_auto && rule.megatron.find("**") == std::string::npos &&
      kinds.parallelism(example).empty()) {
    out.push_back(unknown_module(rule, rule.megatron));
  }
  return out;
}

}  // namespace bv::foreign
