#include <fmt/format.h>

#include <map>

#include "core/base/text.hpp"
#include "core/convert/value_losses.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/copies.hpp"
#include "properties/claims/dequantised.hpp"
#include "properties/claims/dtypes.hpp"

namespace bv::claims {
namespace {

std::string bits_text(std::uint64_t bits, DType dtype) {
  return fmt::format("0x{:0{}x}", bits, static_cast<int>(bytes(dtype)) * 2);
}

/// One HF tensor whose values change on the way to Megatron: by a value rule, or by a cast.
struct Computed {
  const model::Mapping* mapping = nullptr;
  std::size_t hf = 0;  // index into mapping->hf
  DType from = DType::F32;
  DType to = DType::F32;
  bool odd = false;  // its parameter is made of a tensor that nobody can compute with
  [[nodiscard]] const std::string& name() const { return mapping->hf[hf]; }
};

std::vector<Computed> computed_by(const RuleUse& use, const plan::DtypePolicy& policy) {
  std::vector<Computed> out;
  for (const std::uint32_t m : use.mappings) {
    const model::Mapping& mapping = use.model().mappings[m];
    const auto dtypes = plan::dtypes_of(use.source().headers, mapping);
    const DType target = plan::target_dtype(*use.rule, dtypes, policy);
    const bool odd = plan::has_odd_dtype(use.source().headers, mapping);
    for (std::size_t i = 0; i < dtypes.size(); ++i) {
      if (!use.rule->value.empty() || dtypes[i] != target || (odd && policy.params)) {
        out.push_back({&mapping, i, dtypes[i], target, odd});
      }
    }
  }
  return out;
}

Verdict refuted(Verdict verdict, const convert::ValueLoss& first) {
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
      "tensors";
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

Verdict without_bytes(Verdict verdict) {
  verdict.outcome = Outcome::Inconclusive;
  verdict.code = Code::ValueRuleUndecided;
  verdict.title =
      fmt::format("whether {} keeps every bit depends on the values, and there are headers only",
                  verdict.hf.front());
  verdict.help = fmt::format("give the directory with the weights of {}", verdict.hf.front());
  return verdict;
}

using Losses = std::map<std::string, const convert::ValueLoss*, std::less<>>;

/// Every tensor that the rule computes with, in exactly one verdict: those that lost bits and those
/// that cannot be followed apart from those that kept every bit.
void add_computed(const Subject& subject, const RuleUse& use, const Losses& losses,
                  const Dtypes& dtypes, std::vector<Verdict>& out) {
  const Verdict base = about(subject, "values", use, "");
  const auto computed = computed_by(use, subject.dtype);
  std::int64_t odd = 0;
  std::int64_t kept = 0;
  for (const Computed& one : computed) {
    const auto lost = losses.find(one.name());
    if (one.odd) {
      ++odd;
    } else if (lost != losses.end()) {
      out.push_back(refuted(base, *lost->second));
    } else {
      ++kept;
    }
  }
  if (odd > 0) {
    Verdict verdict = base;
    verdict.rule += ":dtype";
    verdict.cases = odd;
    dtypes.mark(*use.part, verdict);
    out.push_back(std::move(verdict));
  }
  if (kept > 0) {
    Verdict verdict = use.source().checkpoint ? base : without_bytes(base);
    if (use.source().checkpoint) {
      verdict.outcome = Outcome::Held;
      verdict.evidence.bytes = true;
    }
    verdict.cases = kept;
    out.push_back(std::move(verdict));
  }
}

/// Memory ran out before every value was looked at: what they lose is open.
Verdict unfinished(const Subject& subject, const RuleUse& use, const Error& error) {
  Verdict verdict = about(subject, "values", use, "");
  verdict.outcome = Outcome::Inconclusive;
  verdict.code = error.code;
  verdict.title =
      fmt::format("the values of {} were not looked at: {}", verdict.megatron, error.message);
  verdict.help = error.help;
  verdict.cases = std::ssize(computed_by(use, subject.dtype));
  return verdict;
}

}  // namespace

std::vector<Verdict> check_copies(const Subject& subject) {
  std::vector<Verdict> out;
  for (const Part& part : subject.parts) {
    const io::TensorStore* const store =
        part.source->checkpoint ? &*part.source->checkpoint : nullptr;
    for (Verdict& verdict : judge_copies(store, part.source->model.must_equal)) {
      verdict.replay = subject.replay + " --only values";
      out.push_back(std::move(verdict));
    }
  }
  return out;
}

std::int64_t count_values(const Subject& subject) {
  std::int64_t out = 0;
  for (const RuleUse& use : rule_uses(subject)) {
    out += std::ssize(computed_by(use, subject.dtype));
  }
  for (const Part& part : subject.parts) {
    out += std::ssize(part.source->model.must_equal);
  }
  return out + count_dequantised(subject);
}

std::vector<Verdict> check_values(const Subject& subject) {
  std::vector<Verdict> out;
  std::map<const Part*, std::vector<convert::ValueLoss>> losses;
  std::map<const Part*, Losses> by_name;
  std::map<const Part*, Error> unread;
  for (const Part& part : subject.parts) {
    if (!part.source->checkpoint) {
      continue;
    }
    auto found = convert::find_losses(*part.source, subject.dtype, subject.budget.jobs);
    if (!found) {
      unread.emplace(&part, std::move(found).error());
      continue;
    }
    losses[&part] = std::move(*found);
    for (const convert::ValueLoss& loss : losses[&part]) {
      by_name[&part][loss.hf] = &loss;
    }
  }
  const Dtypes dtypes(subject);
  for (const RuleUse& use : rule_uses(subject)) {
    const auto error = unread.find(use.part);
    if (error == unread.end()) {
      add_computed(subject, use, by_name[use.part], dtypes, out);
    } else if (!computed_by(use, subject.dtype).empty()) {
      out.push_back(unfinished(subject, use, error->second));
    }
  }
  for (Verdict& verdict : check_copies(subject)) {
    out.push_back(std::move(verdict));
  }
  for (Verdict& verdict : check_dequantised(subject)) {
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace bv::claims
