#include "core/foreign/lint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"

namespace bv::foreign {
namespace {

/// A name that a pattern takes; two fillings tell a wildcard from a number that happens to fit.
std::string example_of(std::string_view pattern, std::string_view number) {
  const std::vector<std::string> fill(wildcards(pattern), std::string(number));
  return fill_pattern(pattern, fill);
}

class Linter {
 public:
  Linter(const ForeignRules& rules, const ForeignKinds& kinds, const Headers* headers)
      : rules_(rules), kinds_(kinds), headers_(headers) {}

  std::vector<LintFinding> run() {
    for (const ForeignRule& rule : rules_.rules) {
      check(rule);
      order(rule);
      if (headers_ != nullptr) {
        fires(rule);
      }
    }
    if (headers_ != nullptr) {
      unused();
    }
    return std::move(out_);
  }

 private:
  LintFinding& add(const ForeignRule& rule, Code code, bool error, std::string message) {
    out_.push_back({code, error, rule.id, rule.source, std::move(message), "", "", ""});
    return out_.back();
  }

  void check(const ForeignRule& rule) {
    for (Error& fault : rule_faults(kinds_, rules_, rule)) {
      LintFinding& out = add(rule, fault.code, true, std::move(fault.message));
      out.found = std::move(fault.found);
      out.wanted = std::move(fault.wanted);
      out.help = std::move(fault.help);
    }
    const ForeignKind* kind = kinds_.find(rule.kind);
    if (kind != nullptr && kind->packed && !rule.transposed) {
      LintFinding& out =
          add(rule, Code::AmbiguousTranspose, false,
              fmt::format("rule {} packs experts and does not say how they are stored", rule.id));
      out.found = "no \"transpose\" parameter";
      out.wanted = "true for [E, in, out], false for [E, out, in]";
      out.help = "state it: square experts cannot be distinguished by shape";
    }
  }

  /// First match wins: an earlier rule may take every name of this one, or just this very name.
  void order(const ForeignRule& rule) {
    for (const ForeignRule& before : rules_.rules) {
      if (before.position == rule.position) {
        return;
      }
      const bool takes = match_pattern(before.megatron, example_of(rule.megatron, "7")) &&
                         match_pattern(before.megatron, example_of(rule.megatron, "13"));
      if (!takes) {
        continue;
      }
      const bool same = before.megatron == rule.megatron;
      if (same && before.hf == rule.hf && before.kind == rule.kind) {
        continue;  // said twice: harmless
      }
      LintFinding& out =
          add(rule, same ? Code::DuplicateClaim : Code::RuleShadowed, same,
              same ? fmt::format("rules {} and {} both make {}", before.id, rule.id,
                                 escaped(rule.megatron))
                   : fmt::format(
                         "rule {} can never match: rule {} is tried first and takes the same names",
                         rule.id, before.id));
      out.found = fmt::format("{} at {}", escaped(before.megatron), before.source);
      out.wanted = fmt::format("{} at {}", escaped(rule.megatron), rule.source);
      out.help =
          same ? "keep one of the two" : "put the exact name before the wildcard, or remove it";
      return;
    }
  }

  void fires(const ForeignRule& rule) {
    std::vector<std::string> silent;
    for (const auto& [role, pattern] : rule.hf) {
      bool hit = false;
      if (wildcards(pattern) == 0) {
        hit = headers_->contains(pattern);
        if (hit) {
          used_.insert(pattern);
        }
      } else {
        const std::string start = pattern.substr(0, pattern.find('*'));
        for (auto at = headers_->lower_bound(start);
             at != headers_->end() && at->first.starts_with(start); ++at) {
          if (match_pattern(pattern, at->first)) {
            used_.insert(at->first);
            hit = true;
          }
        }
      }
      if (!hit) {
        silent.push_back(pattern);
      }
    }
    if (silent.empty()) {
      return;
    }
    const bool dead = silent.size() == rule.hf.size();
    LintFinding& out =
        add(rule, dead ? Code::RuleDead : Code::HfTensorMissing, !dead,
            dead ? fmt::format("rule {} never fires: no tensor of the checkpoint fits it", rule.id)
                 : fmt::format("rule {} finds only some of its tensors", rule.id));
    out.found = "no tensor " + escaped(silent.front());
    out.wanted = "tensors for " + escaped(rule.megatron);
    out.help = dead ? "remove the rule, or correct its HF names"
                    : "correct the HF name of the part that is missing";
  }

  void unused() {
    for (const auto& [name, spec] : *headers_) {
      if (used_.contains(name)) {
        continue;
      }
      constexpr std::size_t kShown = 1000;
      if (out_.size() < kShown) {
        out_.push_back({Code::HfTensorUnused, true, "", rules_.file,
                        fmt::format("{} is read by no rule", escaped(name)), shape_text(spec.shape),
                        "one rule that reads it", "add a rule for it"});
      }
    }
  }

  const ForeignRules& rules_;
  const ForeignKinds& kinds_;
  const Headers* headers_;
  std::set<std::string, std::less<>> used_;
  std::vector<LintFinding> out_;
};

}  // namespace

std::vector<LintFinding> lint_rules(const ForeignRules& rules, const ForeignKinds& kinds,
                                    const Headers* headers) {
  return Linter(rules, kinds, headers).run();
}

}  // namespace bv::foreign
