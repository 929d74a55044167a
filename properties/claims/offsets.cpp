// Where Megatron keeps a norm weight as its offset from one, a rule must take one away: the value
// that each rule adds, against the oracle's statement. Headers decide it.
#include <fmt/format.h>
#include <algorithm>

#include "core/base/text.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/foreign/pattern.hpp"
#include "core/kinds/values.hpp"
#include "oracles/target_layout.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::claims {
namespace {

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

constexpr const char* kSeen = "facts.norms: so the modules of both libraries were seen to compute";

/// What Megatron must hold by the oracle and by what was seen of the libraries, against what the
/// rule puts there.
class ValueStatement {
 public:
  ValueStatement(const Subject& subject, const RuleUse& use)
      : subject_(subject), use_(use), added_(use.rule->value.added_on_import()) {}

  Verdict check() const {
    for (const std::uint32_t m : use_.mappings) {
      const std::string parameter = use_.model().megatron_name(use_.model().mappings[m]);
      if (const auto added = seen(m); added && *added != added_) {
        return wrong(m, parameter, *added, kSeen);
      }
      const oracle::WantedValue wanted = wanted_of(parameter);
      if (!wanted.added) {
        return measured() ? by_measurement() : by_rules_file(wanted.because);
      }
      if (*wanted.added != added_) {
        return wrong(m, parameter, *wanted.added, wanted.because);
      }
    }
    Verdict right = statement();
    if (rests_on_statement()) {
      return by_statement(std::move(right));
    }
    right.outcome = Outcome::Proved;
    right.evidence = {.proved = true, .oracle = true};
    return right;
  }

 private:
  /// By the oracle. How Megatron keeps the weight is what was seen of the built module, else what
  /// the provider sets; without either, what the family says.
  oracle::WantedValue wanted_of(const std::string& parameter) const {
    oracle::Question question;
    question.parameter = parameter;
    question.model_type = use_.source().model_type;
    question.stated = stated(use_.model());
    const oracle::WantedValue by_family = subject_.budget.oracle.wanted_value(question);
    if (subject_.under_test == nullptr || question.stated.zero_centered_gamma) {
      return by_family;
    }
    const foreign::ForeignRules& rules = subject_.under_test->rules;
    const auto seen_of_built = kept_as_offset(rules.norms.megatron, parameter);
    const auto built = seen_of_built ? seen_of_built : rules.zero_centered_norms;
    if (!built || !by_family.added) {
      return by_family;
    }
    question.stated.zero_centered_gamma = built;
    oracle::WantedValue out = subject_.budget.oracle.wanted_value(question);
    if (out.added != by_family.added) {
      out.because += seen_of_built
                         ? fmt::format(" (facts.norms: {} is kept as {})", parameter,
                                       *built ? "an offset" : "a weight")
                         : fmt::format(" (facts.layernorm_zero_centered_gamma is {} in {})", *built,
                                       rules.file);
    }
    return out;
  }

  /// A norm of a model that no oracle knows: the family file states how it is stored.
  bool rests_on_statement() const {
    return claims::rests_on_statement(use_.source()) &&
           std::any_of(use_.mappings.begin(), use_.mappings.end(), [&](std::uint32_t m) {
             return oracle::is_norm_weight(use_.model().megatron_name(use_.model().mappings[m]));
           });
  }

  /// Right if the statement is, and the claim forward judges that in this run.
  Verdict by_statement(Verdict out) const {
    const std::string said = "computes_like " + stated(use_.model()).like;
    out.facts.push_back("stated by the family file: " + said);
    if (subject_.budget.computes_forward) {
      out.outcome = Outcome::Held;
      out.evidence = {.oracle = true};
      return out;
    }
    out.outcome = Outcome::Inconclusive;
    out.code = Code::ValueRuleUndecided;
    out.title = fmt::format("the family file states how {} is stored; only forward judges that",
                            out.megatron);
    out.help = subject_.replay + " --level full";
    return out;
  }

  Verdict statement() const {
    Verdict out = about(subject_, "offsets", use_, "");
    out.cases = use_.parameters;
    return out;
  }

  Verdict open(const std::string& because) const {
    Verdict out = statement();
    out.outcome = Outcome::Inconclusive;
    out.code = Code::ValueRuleUndecided;
    out.title = because;
    out.found = rule_text(added_);
    out.wanted = "the value as it is, or its offset from one";
    out.help =
        subject_.under_test == nullptr
            ? "state facts.computes_like in the family file: --level full judges it "
              "(docs/howto/family-without-a-build.md)"
            : "state facts.layernorm_zero_centered_gamma in the rules file, as the provider of the "
              "bridge sets it, or facts.computes_like in a family file, which --level full judges "
              "(docs/howto/family-without-a-build.md)";
    return out;
  }

  /// How one side keeps a norm weight; nullopt when nobody looked.
  static std::optional<bool> kept_as_offset(const std::vector<foreign::NormStorage>& norms,
                                            const std::string& name) {
    for (const foreign::NormStorage& norm : norms) {
      if (foreign::match_pattern(norm.pattern, name)) {
        return norm.offset;
      }
    }
    return std::nullopt;
  }

  /// The value that the two libraries, as they were seen to compute, ask a rule to add.
  std::optional<double> seen(std::uint32_t m) const {
    if (subject_.under_test == nullptr) {
      return std::nullopt;
    }
    const model::Mapping& mapping = use_.model().mappings[m];
    const foreign::MeasuredNorms& norms = subject_.under_test->rules.norms;
    const auto hf = kept_as_offset(norms.hf, mapping.hf.front());
    const auto megatron = kept_as_offset(norms.megatron, use_.model().megatron_name(mapping));
    if (!hf || !megatron) {
      return std::nullopt;
    }
    return (*hf ? 1.0 : 0.0) - (*megatron ? 1.0 : 0.0);
  }

  bool measured() const {
    return std::all_of(use_.mappings.begin(), use_.mappings.end(),
                       [this](std::uint32_t m) { return seen(m).has_value(); });
  }

  Verdict by_measurement() const {
    for (const std::uint32_t m : use_.mappings) {
      if (const double added = *seen(m); added != added_) {
        return wrong(m, use_.model().megatron_name(use_.model().mappings[m]), added, kSeen);
      }
    }
    Verdict out = statement();
    out.outcome = Outcome::Proved;
    out.evidence = {.proved = true, .upstream = true};
    return out;
  }

  /// What the rules file states is not evidence, but its own rules must not contradict it: Megatron
  /// keeps offsets from one, of weights (-1) or of offsets (0), or it keeps weights, of weights (0)
  /// or of offsets (+1).
  Verdict by_rules_file(const std::string& because) const {
    const auto centered = subject_.under_test == nullptr
                              ? std::nullopt
                              : subject_.under_test->rules.zero_centered_norms;
    if (!centered) {
      return open(because);
    }
    Verdict out = statement();
    const std::string fact = fmt::format("facts.layernorm_zero_centered_gamma is {} in {}",
                                         *centered, subject_.under_test->rules.file);
    if (added_ == 0.0 || added_ == (*centered ? -1.0 : 1.0)) {
      out.outcome = Outcome::Inconclusive;
      out.code = Code::ValueRuleUndecided;
      out.title = fmt::format("only the rules file says how {} is stored", out.megatron);
      out.why = fact + ", and the rules agree with it; no oracle knows what HF stores";
      out.help =
          "state facts.computes_like in a family file: --level full judges it "
          "(docs/howto/family-without-a-build.md)";
      return out;
    }
    out.outcome = Outcome::Refuted;
    out.code = Code::StatementWrong;
    out.refuted_cases = out.cases;
    out.title = "a rule of a norm and a statement of the rules file contradict each other";
    out.found = rule_text(added_);
    out.wanted = *centered ? "the value as it is, or the value -1" : "the value as it is";
    out.facts = {fact};
    out.help = "correct the value rule or the statement";
    return out;
  }

  Verdict wrong(std::uint32_t m, const std::string& parameter, double wanted,
                const std::string& because) const {
    const std::string& hf = use_.model().mappings[m].hf.front();
    Verdict out = statement();
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
    if (!use_.source().checkpoint) {
      return;
    }
    const io::Checkpoint& checkpoint = *use_.source().checkpoint;
    const checkpoint::SourceTensor stored{&checkpoint, checkpoint.find(hf)};
    const DType dtype = stored.spec->dtype;
    if (!kinds::is_computable(dtype)) {
      return;
    }
    const checkpoint::WholeTensor whole(stored);
    const auto bytes = whole.bytes();
    const auto size = static_cast<std::size_t>(bv::bytes(dtype));
    for (std::size_t at = 0; at + size <= bytes.size(); at += size) {
      const auto element = bytes.subspan(at, size);
      const std::string has = sum_text(element, dtype, added_);
      const std::string wants = sum_text(element, dtype, wanted);
      if (has == wants) {
        continue;
      }
      example.index = {static_cast<std::int64_t>(at / size)};
      example.wanted.index = example.index;
      example.found.index = example.index;
      const std::string x = fmt::format("{:g}", kinds::load(element.data(), dtype));
      out.found = fmt::format("element {}: {} of {} = {}", at / size, rule_text(added_), x, has);
      out.wanted = fmt::format("{} = {}", rule_text(wanted), wants);
      break;
    }
    checkpoint::release({&stored, 1});
  }

  const Subject& subject_;
  const RuleUse& use_;
  double added_;
};

}  // namespace

std::int64_t count_offsets(const Subject& subject) {
  return sum_of(subject, &RuleUse::parameters);
}

std::vector<Verdict> check_offsets(const Subject& subject) {
  std::vector<Verdict> out;
  for (const RuleUse& use : rule_uses(subject)) {
    out.push_back(ValueStatement(subject, use).check());
  }
  return out;
}

}  // namespace bv::claims
