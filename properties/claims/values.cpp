#include <fmt/format.h>

#include <map>

#include "core/base/text.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {
namespace {

std::string bits_text(std::uint64_t bits, DType dtype) {
  return fmt::format("0x{:0{}x}", bits, static_cast<int>(bytes(dtype)) * 2);
}

/// Rules whose road through `policy` computes: a value rule, or a change of dtype.
bool computes(const Input& input, const RuleUse& use, const exec::DtypePolicy& policy) {
  if (!use.rule->value.empty()) {
    return true;
  }
  for (const std::uint32_t m : use.mappings) {
    const model::Mapping& mapping = input.source->model.mappings[m];
    std::vector<DType> dtypes;
    for (const std::string& hf : mapping.hf) {
      dtypes.push_back(input.source->headers.find(hf)->second.dtype);
    }
    const DType target = exec::target_dtype(*use.rule, dtypes, policy);
    for (const DType dtype : dtypes) {
      if (dtype != target) {
        return true;
      }
    }
  }
  return false;
}

Verdict refuted(Verdict verdict, const exec::ValueLoss& first) {
  verdict.outcome = Outcome::Refuted;
  verdict.code = Code::ValueRuleInexact;
  verdict.rule += ":" + first.hf;
  verdict.hf = {first.hf};
  verdict.cases = 1;
  verdict.refuted_cases = 1;
  verdict.title =
      fmt::format("{} does not come back bit for bit: {} of {} elements change", first.hf,
                  thousands(first.exactness.inexact), thousands(first.exactness.elements));
  verdict.found = fmt::format("element {}: {} after the round trip", first.exactness.first_inexact,
                              bits_text(first.exactness.first_found_bits, first.hf_dtype));
  verdict.wanted = bits_text(first.exactness.first_wanted_bits, first.hf_dtype);
  verdict.why = first.rule->value.empty()
                    ? fmt::format("stored as {} on the Megatron side, {} in the checkpoint",
                                  name(first.megatron_dtype), name(first.hf_dtype))
                    : fmt::format(
                          "the norm is stored minus 1 on the Megatron side ({}), and 1 is added on "
                          "the way back",
                          name(first.megatron_dtype));
  verdict.help =
      "the map is right and the values cannot pass it exactly: keep the source file for these "
      "tensors, or waive this";
  Counterexample example;
  example.tensor = first.hf;
  example.index = {first.exactness.first_inexact};
  example.wanted = {first.hf, {first.exactness.first_inexact}};
  example.found = example.wanted;
  example.wanted_bits = bits_text(first.exactness.first_wanted_bits, first.hf_dtype);
  example.found_bits = bits_text(first.exactness.first_found_bits, first.hf_dtype);
  verdict.counterexamples.push_back(std::move(example));
  return verdict;
}

}  // namespace

std::vector<Verdict> check_values(const Input& input, const exec::DtypePolicy& policy) {
  std::vector<Verdict> out;
  std::map<const model::Rule*, std::vector<const exec::ValueLoss*>> by_rule;
  std::vector<exec::ValueLoss> losses;
  if (input.source->checkpoint) {
    losses = exec::find_losses(*input.source, policy, input.jobs);
    for (const exec::ValueLoss& loss : losses) {
      by_rule[loss.rule].push_back(&loss);
    }
  }
  for (const RuleUse& use : rule_uses(input.source->model)) {
    if (!computes(input, use, policy)) {
      continue;
    }
    Verdict verdict = about(input, "values", use, "");
    if (!input.source->checkpoint) {
      verdict.outcome = Outcome::Inconclusive;
      verdict.code = Code::ValueRuleUndecided;
      verdict.title = fmt::format(
          "whether {} keeps every bit depends on the values, and there are headers only",
          verdict.hf.front());
      verdict.help = fmt::format("give the directory with the weights of {}, or waive BV3004",
                                 verdict.hf.front());
    } else if (const auto lost = by_rule.find(use.rule); lost != by_rule.end()) {
      // One verdict for each tensor that lost bits, and one for the tensors of the rule that kept
      // them.
      for (const exec::ValueLoss* loss : lost->second) {
        out.push_back(refuted(verdict, *loss));
      }
      verdict.cases -= static_cast<std::int64_t>(lost->second.size());
      if (verdict.cases <= 0) {
        continue;
      }
      verdict.outcome = Outcome::Held;
      verdict.evidence.bytes = true;
    } else {
      verdict.outcome = Outcome::Held;
      verdict.evidence.bytes = true;
    }
    out.push_back(std::move(verdict));
  }
  for (Verdict& verdict : check_copies(input)) {
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace bv::claims
