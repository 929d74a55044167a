#include "core/model/lint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"

namespace bv::model {
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
      kind(rule);
      counts(rule);
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

  void kind(const ForeignRule& rule) {
    const auto kind = kind_of(kinds_, rules_, rule);
    if (!kind) {
      LintFinding& out = add(rule, kind.error().code, true, kind.error().message);
      out.found = kind.error().found;
      out.wanted = kind.error().wanted;
      out.help = kind.error().help;
      return;
    }
    for (const auto& roles : (*kind)->sources) {
      const bool there =
          rule.hf.size() == 1
              ? (*kind)->sources.size() == 1
              : std::any_of(rule.hf.begin(), rule.hf.end(), [&](const auto& one) {
                  return std::find(roles.begin(), roles.end(), one.first) != roles.end();
                });
      if (!there) {
        LintFinding& out = add(rule, Code::RulesInvalid, true,
                               fmt::format("rule {} of kind {} has no HF name for \"{}\"", rule.id,
                                           escaped(rule.kind), roles.front()));
        out.found = fmt::format("{} names", rule.hf.size());
        out.wanted = fmt::format("{} names", (*kind)->sources.size());
        out.help = "give one name for each part of the kind";
      }
    }
    if ((*kind)->packed && !rule.transposed) {
      LintFinding& out =
          add(rule, Code::AmbiguousTranspose, false,
              fmt::format("rule {} packs experts and does not say how they are stored", rule.id));
      out.found = "no \"transpose\" parameter";
      out.wanted = "true for [E, in, out], false for [E, out, in]";
      out.help = "state it: square experts cannot be told apart by shape";
    }
  }

  void counts(const ForeignRule& rule) {
    const ForeignKind* kind = kinds_.find(rule.kind);
    const std::size_t here = wildcards(rule.megatron);
    for (const auto& [role, pattern] : rule.hf) {
      const std::size_t there = wildcards(pattern);
      if (here != there && !(kind != nullptr && kind->packed && there < here)) {
        LintFinding& out = add(rule, Code::WildcardCount, true,
                               fmt::format("{} wildcard{} in the Megatron name, {} in the HF name",
                                           here, here == 1 ? "" : "s", there));
        out.found = escaped(pattern);
        out.wanted = escaped(rule.megatron);
        out.help = "write as many * on both sides";
      }
      const bool mixed = pattern.find("**") != std::string::npos &&
                         rule.megatron.find("**") != std::string::npos && wildcards(pattern) > 1;
      if (mixed) {
        LintFinding& out =
            add(rule, Code::WildcardCount, true, fmt::format("rule {} mixes * and **", rule.id));
        out.found = escaped(pattern);
        out.wanted = "wildcards of one kind: ** are filled before *, so captures change places";
        out.help = "write the parts that ** stands for as rules of their own";
      }
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

}  // namespace bv::model
