#include "core/verdict/verdict.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace bv {
namespace {

constexpr std::array<std::pair<char, bool Evidence::*>, 7> kLetters = {{
    {'P', &Evidence::proved},
    {'B', &Evidence::bytes},
    {'O', &Evidence::oracle},
    {'U', &Evidence::upstream},
    {'G', &Evidence::gpu},
    {'S', &Evidence::sampled},
    {'W', &Evidence::waived},
}};

bool green(Outcome outcome) {
  return outcome == Outcome::Proved || outcome == Outcome::Held || outcome == Outcome::Waived;
}

bool has_verdict(const Run& run, std::string_view claim) {
  return std::any_of(run.verdicts.begin(), run.verdicts.end(),
                     [claim](const Verdict& verdict) { return verdict.claim == claim; });
}

/// "2 verdicts are inconclusive", "1 verdict is unsupported", or both.
std::string undecided_counts(const Counts& counts) {
  std::string out;
  for (const auto& [n, word] : {std::pair(counts.inconclusive, "inconclusive"),
                                std::pair(counts.unsupported, "unsupported")}) {
    if (n > 0) {
      out += fmt::format("{}{} {} {}", out.empty() ? "" : ", ", n,
                         n == 1 ? "verdict is" : "verdicts are", word);
    }
  }
  return out;
}

std::string line(const Run& run, bool zeros) {
  const Counts counts = count(run);
  std::string out = "bridge-verify: " + conclude(run).word;
  for (const auto& [word, n] : std::initializer_list<std::pair<const char*, std::int64_t>>{
           {"proved", counts.proved},
           {"held", counts.held},
           {"refuted", counts.refuted},
           {"inconclusive", counts.inconclusive},
           {"unsupported", counts.unsupported},
           {"waived", counts.waived},
           {"broken", counts.broken},
           {"layouts", static_cast<std::int64_t>(run.layouts.size())}}) {
    out += n > 0 || zeros ? fmt::format("  {} {}", word, n) : "";
  }
  return out + fmt::format("  {:.1f} s", std::max(run.seconds, 0.0));
}

/// The worst of the errors that left verdicts out.
Conclusion of_errors(const Run& run) {
  int code = 5;
  bool undecided = true;
  for (const Error& error : run.input_errors) {
    const int own = exit_code_of(error.code);
    undecided = undecided && own == 3;
    code = own == 4 || code == 4 ? 4 : own == 2 ? 2 : code;
  }
  code = undecided ? 3 : code;  // the input is what it should be: nothing more is known of it
  return {std::string(word_of(code)), code};
}

}  // namespace

int badness(Outcome outcome) {
  switch (outcome) {
    case Outcome::Broken:
      return 6;
    case Outcome::Refuted:
      return 5;
    case Outcome::Inconclusive:
      return 4;
    case Outcome::Unsupported:
      return 3;
    case Outcome::Waived:
      return 2;
    case Outcome::Held:
      return 1;
    case Outcome::Proved:
      return 0;
  }
  return 6;
}

std::string_view name(Outcome outcome) {
  switch (outcome) {
    case Outcome::Proved:
      return "Proved";
    case Outcome::Held:
      return "Held";
    case Outcome::Refuted:
      return "Refuted";
    case Outcome::Inconclusive:
      return "Inconclusive";
    case Outcome::Unsupported:
      return "Unsupported";
    case Outcome::Waived:
      return "Waived";
    case Outcome::Broken:
      return "Broken";
  }
  return "Broken";
}

std::string letters(const Evidence& evidence) {
  std::string out;
  for (const auto& [letter, member] : kLetters) {
    out += evidence.*member ? letter : '-';
  }
  return out;
}

Evidence operator|(const Evidence& a, const Evidence& b) {
  Evidence out;
  for (const auto& [letter, member] : kLetters) {
    out.*member = a.*member || b.*member;
  }
  return out;
}

std::string Verdict::id() const {
  std::string out = claim;
  out += '.';
  out += !rule.empty() ? rule : !megatron.empty() ? megatron : !hf.empty() ? hf.front() : "model";
  if (!layout.empty()) {
    out += '.';
    out += layout;
  }
  return out;
}

Counts count(const Run& run) {
  Counts counts;
  for (const Verdict& verdict : run.verdicts) {
    switch (verdict.outcome) {
      case Outcome::Proved:
        ++counts.proved;
        break;
      case Outcome::Held:
        ++counts.held;
        break;
      case Outcome::Refuted:
        ++counts.refuted;
        break;
      case Outcome::Inconclusive:
        ++counts.inconclusive;
        break;
      case Outcome::Unsupported:
        ++counts.unsupported;
        break;
      case Outcome::Waived:
        ++counts.waived;
        break;
      case Outcome::Broken:
        ++counts.broken;
        break;
    }
  }
  return counts;
}

std::vector<std::string> undecided_reasons(const Run& run) {
  std::vector<std::string> reasons;
  const Counts counts = count(run);
  std::int64_t green_cases = 0;
  for (const Verdict& verdict : run.verdicts) {
    green_cases += green(verdict.outcome) ? verdict.cases : 0;
  }
  if (run.verdicts.empty()) {
    reasons.emplace_back("no claim was checked");
  } else if (green_cases == 0 && counts.inconclusive + counts.unsupported == 0) {
    reasons.emplace_back("no claim had anything to check");
  }
  for (const ClaimSummary& claim : run.claims) {
    if (claim.skipped) {
      reasons.push_back(fmt::format("claim {} was skipped", claim.claim));
    } else if (!claim.reached) {
      reasons.push_back(fmt::format("claim {} was not reached: {}", claim.claim, claim.note));
    } else if (claim.requested && !claim.vacuous && !has_verdict(run, claim.claim)) {
      reasons.push_back(fmt::format("claim {} was requested and has no verdict", claim.claim));
    }
  }
  if (run.partial && !run.allow_partial) {
    reasons.emplace_back("partial run; some tensors were not checked (--allow-partial accepts it)");
  }
  if (counts.inconclusive + counts.unsupported > 0 && run.fail_on != FailOn::Refuted) {
    reasons.push_back(undecided_counts(counts));
  }
  return reasons;
}

std::string_view name(FailOn fail_on) {
  switch (fail_on) {
    case FailOn::Refuted:
      return "refuted";
    case FailOn::Inconclusive:
      return "inconclusive";
    case FailOn::Warning:
      return "warning";
  }
  return "inconclusive";
}

std::optional<FailOn> fail_on_from(std::string_view word) {
  for (const FailOn one : {FailOn::Refuted, FailOn::Inconclusive, FailOn::Warning}) {
    if (name(one) == word) {
      return one;
    }
  }
  return std::nullopt;
}

int exit_code_of(Code code) {
  if (code == Code::Stopped) {
    return 130;
  }
  if (is_unsupported(code)) {
    return 3;
  }
  const auto family = static_cast<unsigned>(code) / 1000;
  return family == 0 ? 2 : family == 5 || family == 9 ? 4 : 5;
}

std::string_view word_of(int exit_code) {
  switch (exit_code) {
    case 0:
      return "PASS";
    case 1:
      return "FAIL";
    case 2:
      return "USAGE";
    case 3:
      return "INCOMPLETE";
    case 5:
      return "INPUT";
    case 129:
    case 130:
    case 143:
      return "STOPPED";
    default:
      return "BROKEN";
  }
}

Conclusion conclude(const Run& run) {
  const Counts counts = count(run);
  const bool unusable = !run.input_errors.empty();
  if (counts.broken > 0 || (unusable && of_errors(run).exit_code == 4)) {
    return {"BROKEN", 4};
  }
  if (run.stopped) {
    return {"STOPPED", 128 + static_cast<int>(run.stop_signal)};
  }
  if (counts.refuted > 0 || (run.fail_on == FailOn::Warning && !run.warnings.empty())) {
    return {"FAIL", 1};
  }
  if (unusable) {
    return of_errors(run);
  }
  if (!undecided_reasons(run).empty()) {
    return {"INCOMPLETE", 3};
  }
  if (counts.inconclusive + counts.unsupported > 0) {
    return {"INCOMPLETE", 0};  // --fail-on refuted: asked for, and still not called a pass
  }
  return {"PASS", 0};
}

std::string last_line(const Run& run) {
  return line(run, true);
}

std::string short_last_line(const Run& run) {
  return line(run, false);
}

ClaimResult result_of(const Run& run, std::string_view claim) {
  ClaimResult result;
  bool first_green = true;
  for (const Verdict& verdict : run.verdicts) {
    if (verdict.claim != claim) {
      continue;
    }
    if (!result.checked || badness(verdict.outcome) > badness(result.outcome)) {
      result.outcome = verdict.outcome;
    }
    result.checked = true;
    result.some = result.some | verdict.evidence;
    if (!green(verdict.outcome)) {
      continue;
    }
    for (const auto& [letter, member] : kLetters) {
      result.all.*member = verdict.evidence.*member && (first_green || result.all.*member);
    }
    first_green = false;
  }
  return result;
}

}  // namespace bv
