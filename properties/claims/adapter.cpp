#include "properties/claims/adapter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/kinds/values.hpp"
#include "core/lora/wrapped.hpp"
#include "properties/claims/adapter_verdicts.hpp"

namespace bv::claims {
namespace {

bool is_of_shapes(Code code) {
  return code == Code::AdapterShape;
}

Verdict of_fault(std::string_view claim, const lora::AdapterFault& fault) {
  Verdict out = adapter_verdict(claim, fault.key, Outcome::Refuted, 1);
  out.code = fault.code;
  out.megatron = fault.key;
  out.title = fault.message;
  out.found = fault.found;
  out.wanted = fault.wanted;
  out.help = fault.help;
  return out;
}

std::vector<Verdict> by_faults(const AdapterSubject& subject, std::string_view claim, bool shapes,
                               std::int64_t all) {
  std::vector<Verdict> out;
  for (const lora::AdapterFault& fault : subject.adapter->faults) {
    if (is_of_shapes(fault.code) == shapes) {
      out.push_back(of_fault(claim, fault));
    }
  }
  const auto wrong = static_cast<std::int64_t>(out.size());
  if (all > wrong) {
    Verdict rest = adapter_verdict(claim, "adapter", Outcome::Proved, all - wrong);
    rest.megatron = "adapter";
    rest.evidence.proved = true;
    out.push_back(std::move(rest));
  }
  return out;
}

void add_row(Run& run, const AdapterClaim& claim, std::vector<Verdict> verdicts) {
  ClaimSummary row = summary_of(claim);
  for (const Verdict& verdict : verdicts) {
    row.subjects += verdict.cases;
  }
  row.vacuous = verdicts.empty();
  row.note = verdicts.empty() ? "the adapter has none" : "";
  run.claims.push_back(std::move(row));
  std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run.verdicts));
}

}  // namespace

std::vector<Verdict> check_adapter_names(const AdapterSubject& subject) {
  return by_faults(subject, "adapter-names", false, subject.adapter->keys);
}

std::vector<Verdict> check_adapter_shapes(const AdapterSubject& subject) {
  const auto faults =
      std::count_if(subject.adapter->faults.begin(), subject.adapter->faults.end(),
                    [](const lora::AdapterFault& fault) { return is_of_shapes(fault.code); });
  return by_faults(subject, "adapter-shapes", true,
                   std::ssize(subject.adapter->pairs) + std::ssize(subject.adapter->biases) +
                       std::ssize(subject.adapter->replacements) + faults);
}

namespace {

std::string targets_text(const lora::ModuleNames& targets) {
  return targets.regex.empty() ? io::printable(join(io::first_lines(targets.names, 8), ", "))
                               : io::in_quotes(targets.regex);
}

}  // namespace

std::vector<Verdict> check_adapter_targets(const AdapterSubject& subject) {
  const auto gaps = lora::target_gaps(*subject.adapter, *subject.base);
  const std::int64_t all = std::max<std::int64_t>(std::ssize(subject.adapter->pairs), 1);
  if (!gaps) {
    return {of_error("adapter-targets", gaps.error(), all)};
  }
  std::vector<Verdict> out;
  const auto add = [&](const std::vector<std::string>& names, const char* what, const char* wanted,
                       const char* help) {
    if (names.empty()) {
      return;
    }
    Verdict verdict = adapter_verdict("adapter-targets", what, Outcome::Refuted, std::ssize(names));
    verdict.code = Code::TargetModules;
    verdict.megatron = names.front();
    verdict.title = fmt::format("{} {} {}", counted(names.size(), "module"),
                                names.size() == 1 ? "is" : "are", what);
    verdict.facts = io::first_lines({names.begin() + 1, names.end()}, 3);
    verdict.found = "target_modules " + targets_text(subject.adapter->config.target_modules);
    verdict.wanted = wanted;
    verdict.help = help;
    out.push_back(std::move(verdict));
  };
  add(gaps->not_loaded, "not loaded by PEFT, though adapted",
      "target_modules or target_parameters that name every adapted module",
      "add the modules to target_modules of adapter_config.json, with their full names where a "
      "short one takes others too");
  add(gaps->fresh, "wrapped by PEFT without a pair",
      "target_modules that name the adapted modules alone",
      "name the adapted modules in full in target_modules of adapter_config.json");
  const std::int64_t right = all - std::ssize(gaps->not_loaded);
  if (right > 0) {
    Verdict verdict = adapter_verdict("adapter-targets", "adapter", Outcome::Proved, right);
    verdict.megatron = "adapter";
    verdict.evidence.proved = true;
    out.push_back(std::move(verdict));
  }
  return out;
}

std::vector<Verdict> check_adapter_values(const AdapterSubject& subject) {
  std::vector<Verdict> out;
  for (const auto& tensor : subject.adapter->tensors) {
    const DType dtype = tensor->stored.spec.dtype;
    const auto size = static_cast<std::size_t>(bytes(dtype));
    for (std::size_t at = 0; at < tensor->bytes.size(); at += size) {
      const double value = kinds::load(tensor->bytes.data() + at, dtype);
      if (std::isfinite(value)) {
        continue;
      }
      Verdict verdict =
          adapter_verdict("adapter-values", tensor->stored.spec.name, Outcome::Refuted, 1);
      verdict.code = Code::AdapterNotFinite;
      verdict.megatron = tensor->stored.spec.name;
      verdict.title = fmt::format("{} holds {} at element {}",
                                  io::in_quotes(tensor->stored.spec.name), value, at / size);
      verdict.found = fmt::format("{}", value);
      verdict.wanted = "finite numbers";
      verdict.help = "train the adapter again, or take an earlier checkpoint";
      out.push_back(std::move(verdict));
      break;
    }
  }
  const std::int64_t all = std::ssize(subject.adapter->tensors);
  if (all > std::ssize(out)) {
    Verdict rest =
        adapter_verdict("adapter-values", "adapter", Outcome::Held, all - std::ssize(out));
    rest.megatron = "adapter";
    rest.evidence.bytes = true;
    out.push_back(std::move(rest));
  }
  return out;
}

namespace {

bool is_all_zero(const lora::Factor& factor) {
  for (std::int64_t row = 0; row < factor.rows; ++row) {
    for (std::int64_t column = 0; column < factor.columns; ++column) {
      if (kinds::load(factor.at(row, column), factor.dtype) != 0) {
        return false;
      }
    }
  }
  return true;
}

/// Nothing says how Megatron holds the base.
Verdict without_family(const AdapterClaim& claim, const AdapterSubject& subject) {
  Verdict out = adapter_verdict(claim.id, "adapter", Outcome::Unsupported,
                                std::max<std::int64_t>(std::ssize(subject.adapter->pairs), 1));
  out.code = Code::ArchitectureUnknown;
  out.megatron = "adapter";
  out.title = fmt::format("no family knows {}: nothing says how Megatron cuts its layers",
                          io::printable(subject.base->architecture));
  out.found = io::printable(subject.base->architecture);
  out.wanted = "an architecture of a built-in family";
  out.help = "name a family of equal structure with --family NAME";
  return out;
}

bool needs_no_ranks(const std::vector<Verdict>& verdicts) {
  return !verdicts.empty() && std::all_of(verdicts.begin(), verdicts.end(), [](const Verdict& one) {
    return one.outcome == Outcome::Unsupported;
  });
}

/// Ranks that Megatron cannot have say nothing of what is asked.
void add_not_asked(Run& run, const AdapterClaim& claim, const Verdict& why) {
  ClaimSummary row = summary_of(claim);
  row.requested = false;
  row.note = why.title;
  run.claims.push_back(std::move(row));
}

/// Pairs whose every product is zero: an adapter that was never trained, or never loaded.
void warn_of_no_effect(const lora::Adapter& adapter, Run& run) {
  const lora::AdapterPair* first = nullptr;
  std::size_t count = 0;
  for (const lora::AdapterPair& pair : adapter.pairs) {
    if (pair.alpha == 0 || is_all_zero(pair.b) || is_all_zero(pair.a)) {
      first = count++ == 0 ? &pair : first;
    }
  }
  if (first != nullptr) {
    run.warnings.push_back(
        fail(Code::AdapterNoEffect,
             fmt::format("{} of {} {} nothing", counted(count, "pair"), adapter.pairs.size(),
                         count == 1 ? "changes" : "change"))
            .pair(fmt::format("{} and its partner multiply to zero", io::in_quotes(first->b.key())),
                  "a delta that is not zero")
            .advise(
                "check that the adapter was trained, and saved under the names it is read with"));
  }
}

}  // namespace

const AdapterClaim& adapter_claim(std::string_view id) {
  const auto at = std::find_if(kAdapterCatalogue.begin(), kAdapterCatalogue.end(),
                               [&](const AdapterClaim& one) { return one.id == id; });
  BV_ASSERT(at != kAdapterCatalogue.end());
  return *at;
}

ClaimSummary summary_of(const AdapterClaim& claim) {
  ClaimSummary row;
  row.claim = claim.id;
  row.title = claim.title;
  row.noun = claim.noun;
  return row;
}

void judge_adapter(const AdapterSubject& subject, Run& run) {
  warn_of_no_effect(*subject.adapter, run);
  const bool wrong_names =
      std::any_of(subject.adapter->faults.begin(), subject.adapter->faults.end(),
                  [](const lora::AdapterFault& fault) { return !is_of_shapes(fault.code); });
  for (const AdapterClaim& claim : kAdapterCatalogue) {
    if (claim.judge == nullptr) {
      continue;  // asked with another subject
    }
    if (claim.on_layouts && subject.adapter->faults.empty()) {
      std::vector<Verdict> verdicts = subject.base->model.family
                                          ? claim.judge(subject)
                                          : std::vector{without_family(claim, subject)};
      if (subject.ranks_optional && needs_no_ranks(verdicts)) {
        add_not_asked(run, claim, verdicts.front());
      } else {
        add_row(run, claim, std::move(verdicts));
      }
      continue;
    }
    const bool explained = claim.after_names && wrong_names;  // by the faults of the keys
    if (!explained && !claim.on_layouts) {
      add_row(run, claim, claim.judge(subject));
      continue;
    }
    ClaimSummary row = summary_of(claim);
    row.reached = false;
    row.note = explained ? "keys are wrong" : "keys or shapes are wrong";
    run.claims.push_back(std::move(row));
  }
}

}  // namespace bv::claims
