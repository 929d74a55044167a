#include "reports/findings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/text.hpp"
#include "core/verdict/ids.hpp"
#include "reports/causes.hpp"

namespace bv::reports {
namespace {

Level level_of(const Verdict& verdict, const Run& run) {
  switch (verdict.outcome) {
    case Outcome::Broken:
      return Level::Error;
    case Outcome::Refuted:
      return Level::Error;
    case Outcome::Inconclusive:
    case Outcome::Unsupported:
      return run.fail_on == FailOn::Refuted ? Level::Warning : Level::Error;
    case Outcome::Waived:
    case Outcome::Proved:
    case Outcome::Held:
      break;
  }
  return Level::Note;
}

std::string subject_name_of(const Verdict& verdict) {
  return !verdict.megatron.empty() ? verdict.megatron
         : verdict.hf.empty()      ? std::string()
                                   : verdict.hf.front();
}

/// The verdicts of one fault, in the run's order.
std::vector<std::vector<const Verdict*>> faults(const Run& run) {
  using Key = std::tuple<Outcome, Code, std::string, std::string, std::string>;
  std::map<Key, std::size_t> place;
  std::vector<std::vector<const Verdict*>> out;
  for (const Verdict& verdict : run.verdicts) {
    if (verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held) {
      continue;
    }
    const auto [at, fresh] = place.try_emplace(
        {verdict.outcome, verdict.code, verdict.claim, verdict.rule, subject_name_of(verdict)},
        out.size());
    if (fresh) {
      out.emplace_back();
    }
    out[at->second].push_back(&verdict);
  }
  return out;
}

Finding finding_of(const std::vector<const Verdict*>& verdicts, const Run& run) {
  const Verdict& first = *verdicts.front();
  Finding out;
  out.level = level_of(first, run);
  out.code = label(first.code);
  out.name = info(first.code).title;
  out.title = first.title.empty() ? std::string(out.name) : first.title;
  out.claim = first.claim;
  out.rule = first.rule;
  out.kind = first.kind;
  out.subject = subject_name_of(first);
  out.replay = first.replay;
  out.waiver = first.waiver;
  out.source = source_place_of(first);
  out.fingerprint = fault_fingerprint(first);
  out.verdicts = verdicts;
  for (const Verdict* verdict : verdicts) {
    if (!verdict->layout.empty() &&
        std::find(out.layouts.begin(), out.layouts.end(), verdict->layout) == out.layouts.end()) {
      out.layouts.push_back(verdict->layout);
    }
  }
  out.block = block_of({verdicts});
  return out;
}

Finding finding_of(const Error& error, Level level) {
  Finding out;
  out.level = level;
  out.code = label(error.code);
  out.name = info(error.code).title;
  out.title = error.message;
  out.claim = level == Level::Error ? "input" : "warning";
  out.source = source_place(error.where);
  out.fingerprint = fingerprint({out.code, error.message});
  out.block.word = level == Level::Error ? "error" : "warning";
  out.block.code = error.code;
  out.block.title = error.message;
  out.block.where = error.where;
  out.block.facts = error.facts;
  out.block.tails = {{"found", error.found}, {"wanted", error.wanted}, {"help", error.help}};
  return out;
}

/// A run that is not green although no single fault makes it so.
Finding closing_finding(const Run& run) {
  const Conclusion conclusion = conclude(run);
  const std::vector<std::string> reasons = undecided_reasons(run);
  Finding out;
  out.code = conclusion.word;
  out.name = "the run is not green";
  out.title = run.stopped       ? "the run was stopped before its end"
              : reasons.empty() ? "the run ended as " + conclusion.word
                                : join(reasons, "; ");
  out.claim = "run";
  out.fingerprint = fingerprint({out.code, out.title});
  out.block.word = "undecided";
  out.block.code = run.stopped ? Code::Stopped : Code::NotReached;
  out.block.title = out.title;
  return out;
}

}  // namespace

std::vector<Finding> findings(const Run& run) {
  std::vector<Finding> out;
  for (const std::vector<const Verdict*>& fault : faults(run)) {
    out.push_back(finding_of(fault, run));
  }
  for (const Error& error : run.input_errors) {
    out.push_back(finding_of(error, Level::Error));
  }
  for (const Error& warning : run.warnings) {
    out.push_back(finding_of(warning, Level::Warning));
    out.back().level = run.fail_on == FailOn::Warning ? Level::Error : Level::Warning;
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Finding& a, const Finding& b) { return a.level < b.level; });
  const bool said = !out.empty() && out.front().level == Level::Error;
  if (conclude(run).exit_code != 0 && !said) {
    out.insert(out.begin(), closing_finding(run));
  }
  return out;
}

std::string block_text(const Block& block, std::size_t bytes_max) {
  std::string text = render_block(block, {});
  if (text.size() > bytes_max) {
    const std::size_t end = text.rfind('\n', bytes_max - std::min<std::size_t>(bytes_max, 8));
    text.resize(end == std::string::npos ? 0 : end + 1);
    text += "...\n";
  }
  return text;
}

std::string headline(const Run& run) {
  const Counts counts = count(run);
  std::vector<std::string> parts;
  for (const auto& [word, n] : std::initializer_list<std::pair<const char*, std::int64_t>>{
           {"refuted", counts.refuted},
           {"broken", counts.broken},
           {"inconclusive", counts.inconclusive},
           {"unsupported", counts.unsupported},
           {"waived", counts.waived},
           {"proved", counts.proved},
           {"held", counts.held}}) {
    if (n > 0) {
      parts.push_back(fmt::format("{} {}", thousands(n), word));
    }
  }
  return conclude(run).word + ": " + (parts.empty() ? "no verdicts" : join(parts, ", "));
}

}  // namespace bv::reports
