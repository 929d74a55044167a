#include <fmt/format.h>

#include <map>

#include "core/base/text.hpp"
#include "core/convert/value_losses.hpp"
#include "core/kinds/value_rule.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {
namespace {

std::string bits_text(std::uint64_t bits, DType dtype) {
  return fmt::format("0x{:0{}x}", bits, static_cast<int>(bytes(dtype)) * 2);
}

/// Rules whose road through `policy` computes: a value rule, or a change of dtype.
bool computes(const Input& input, const RuleUse& use, const plan::DtypePolicy& policy) {
  if (!use.rule->value.empty()) {
    return true;
  }
  for (const std::uint32_t m : use.mappings) {
    const model::Mapping& mapping = input.source->model.mappings[m];
    std::vector<DType> dtypes;
    for (const std::string& hf : mapping.hf) {
      dtypes.push_back(input.source->headers.find(hf)->second.dtype);
    }
    const DType target = plan::target_dtype(*use.rule, dtypes, policy);
    for (const DType dtype : dtypes) {
      if (dtype != target) {
        return true;
      }
    }
  }
  return false;
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

std::string rule_text(double added) {
  return added == 0.0 ? "the value as it is" : fmt::format("the value {:+g}", added);
}

/// x + added as the type of the tensor holds it.
std::string sum_text(std::span<const std::byte> element, DType dtype, double added) {
  std::byte sum[8];
  std::copy(element.begin(), element.end(), sum);
  kinds::add_constant({sum, element.size()}, dtype, added);
  return fmt::format("{:g}", kinds::load(sum, dtype));
}

/// What Megatron must hold by the oracle, against what the rule puts there.
class ValueStatement {
 public:
  ValueStatement(const Input& input, const RuleUse& use)
      : input_(input), use_(use), added_(kinds::added_on_import(use.rule->value)) {}

  /// nullopt when the rule does what is wanted, or when nobody is asked.
  std::optional<Verdict> check() const {
    for (const std::uint32_t m : use_.mappings) {
      oracle::Question question;
      question.parameter = input_.source->model.megatron_name(input_.source->model.mappings[m]);
      question.model_type = input_.source->model_type;
      const oracle::WantedValue wanted = input_.oracle.wanted_value(question);
      if (!wanted.added) {
        return input_.under_test == nullptr ? std::nullopt : std::optional(open(wanted.because));
      }
      if (*wanted.added != added_) {
        return wrong(m, question.parameter, *wanted.added, wanted.because);
      }
    }
    return std::nullopt;
  }

 private:
  Verdict subject() const {
    Verdict out = about(input_, "values", use_, "");
    out.rule += ":rule";
    return out;
  }

  Verdict open(const std::string& because) const {
    Verdict out = subject();
    out.outcome = Outcome::Inconclusive;
    out.code = Code::ValueRuleUndecided;
    out.title = fmt::format("whether {} is to be stored as it is: {}", out.megatron, because);
    out.help = "write a family for this architecture, or say its norms in oracles/target_value.cpp";
    return out;
  }

  Verdict wrong(std::uint32_t m, const std::string& parameter, double wanted,
                const std::string& because) const {
    const std::string& hf = input_.source->model.mappings[m].hf.front();
    Verdict out = subject();
    out.outcome = Outcome::Refuted;
    out.code = Code::ValueRuleWrong;
    out.refuted_cases = out.cases;
    out.title = fmt::format("{} must hold {} of {}, and the rule puts {} there", parameter,
                            rule_text(wanted), hf, rule_text(added_));
    out.found = rule_text(added_);
    out.wanted = rule_text(wanted);
    out.why = because;
    out.help = wanted == 0.0 ? "take the value rule away" : "give the rule the kind norm_minus_one";
    Counterexample example;
    example.tensor = parameter;
    example.index = {0};
    example.wanted = {hf, {0}};
    example.found = example.wanted;
    show_first(hf, wanted, out, example);
    out.counterexamples.push_back(std::move(example));
    return out;
  }

  /// The first element that the two rules make different, with its numbers when there are bytes.
  void show_first(const std::string& hf, double wanted, Verdict& out,
                  Counterexample& example) const {
    if (!input_.source->checkpoint) {
      return;
    }
    const io::StoredTensor& stored = input_.source->checkpoint->tensors().find(hf)->second;
    if (!kinds::is_computable(stored.spec.dtype)) {
      return;
    }
    const auto bytes = input_.source->checkpoint->bytes(stored);
    const auto size = static_cast<std::size_t>(bv::bytes(stored.spec.dtype));
    for (std::size_t at = 0; at + size <= bytes.size(); at += size) {
      const auto element = bytes.subspan(at, size);
      const std::string has = sum_text(element, stored.spec.dtype, added_);
      const std::string wants = sum_text(element, stored.spec.dtype, wanted);
      if (has == wants) {
        continue;
      }
      example.index = {static_cast<std::int64_t>(at / size)};
      example.wanted.index = example.index;
      example.found.index = example.index;
      const std::string x = fmt::format("{:g}", kinds::load(element.data(), stored.spec.dtype));
      out.found = fmt::format("element {}: {} of {} = {}", at / size, rule_text(added_), x, has);
      out.wanted = fmt::format("{} = {}", rule_text(wanted), wants);
      break;
    }
    input_.source->checkpoint->release(bytes);
  }

  const Input& input_;
  const RuleUse& use_;
  double added_;
};

/// Rules under test whose value is the wanted one are a case of their own; of built-in rules only
/// wrong ones are told.
void add_statement(const Input& input, const RuleUse& use, std::vector<Verdict>& out) {
  if (auto statement = ValueStatement(input, use).check()) {
    out.push_back(std::move(*statement));
  } else if (input.under_test != nullptr) {
    Verdict right = about(input, "values", use, "");
    right.rule += ":rule";
    right.outcome = Outcome::Proved;
    right.evidence = {.proved = true, .oracle = true};
    out.push_back(std::move(right));
  }
}

}  // namespace

std::vector<Verdict> check_values(const Input& input, const plan::DtypePolicy& policy) {
  std::vector<Verdict> out;
  std::map<const family::Rule*, std::vector<const convert::ValueLoss*>> by_rule;
  std::vector<convert::ValueLoss> losses;
  if (input.source->checkpoint) {
    losses = convert::find_losses(*input.source, policy, input.jobs);
    for (const convert::ValueLoss& loss : losses) {
      by_rule[loss.rule].push_back(&loss);
    }
  }
  for (const RuleUse& use : rule_uses(input.source->model)) {
    add_statement(input, use, out);
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
      for (const convert::ValueLoss* loss : lost->second) {
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
