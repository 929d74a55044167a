#include "reports/test_cases.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/text.hpp"
#include "core/verdict/ids.hpp"
#include "core/verdict/source_place.hpp"
#include "reports/causes.hpp"
#include "reports/findings.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kBodyMax = 4000;

bool is_green(Outcome outcome) {
  return outcome == Outcome::Proved || outcome == Outcome::Held;
}

TestCase::Status status_of(const Verdict& verdict, const Run& run) {
  switch (verdict.outcome) {
    case Outcome::Proved:
    case Outcome::Held:
      return TestCase::Status::Passed;
    case Outcome::Refuted:
      return TestCase::Status::Failed;
    case Outcome::Inconclusive:
    case Outcome::Unsupported:
      return run.fail_on == FailOn::Refuted ? TestCase::Status::Undecided
                                            : TestCase::Status::Failed;
    case Outcome::Waived:
      return TestCase::Status::Skipped;
    case Outcome::Broken:
      break;
  }
  return TestCase::Status::Error;
}

std::string waived_text(const Verdict& verdict, const Run& run) {
  for (const WaiverRow& row : run.waivers) {
    if (row.place == verdict.waiver) {
      return fmt::format("waived: {} ({}, until {})", row.reason, row.issue, row.expires);
    }
  }
  return "waived: " + verdict.waiver;
}

std::string case_name(const Verdict& verdict, const std::string& layouts) {
  const std::string subject = !verdict.megatron.empty() ? verdict.megatron
                              : verdict.hf.empty()      ? std::string("model")
                                                        : verdict.hf.front();
  std::string out = verdict.rule.empty() ? subject : verdict.rule + " " + subject;
  return layouts.empty() ? out : out + " [" + layouts + "]";
}

TestCase case_of(const Verdict& verdict, const std::string& id, const Run& run) {
  TestCase out;
  out.id = id;
  out.suite = verdict.claim;
  out.name = case_name(verdict, verdict.layout);
  out.status = status_of(verdict, run);
  out.outcome = name(verdict.outcome);
  out.replay = verdict.replay;
  out.kind = verdict.kind;
  out.evidence = letters(verdict.evidence);
  out.layout = verdict.layout;
  const SourcePlace place = source_place_of(verdict);
  out.source_file = place.file;
  out.source_line = place.line;
  if (!is_green(verdict.outcome)) {
    out.code = label(verdict.code);
    out.message = verdict.outcome == Outcome::Waived ? waived_text(verdict, run)
                  : verdict.title.empty()            ? std::string(info(verdict.code).title)
                                                     : verdict.title;
    out.body = block_text(block_of({{&verdict}}), kBodyMax);
  }
  return out;
}

/// Green verdicts of one rule as one case, in the place of the first.
std::vector<TestCase> merged_by_rule(const Run& run, const std::vector<std::string>& ids) {
  std::vector<TestCase> out;
  std::map<std::string, std::pair<std::size_t, std::size_t>> groups;  // key -> place, verdicts
  for (std::size_t i = 0; i < run.verdicts.size(); ++i) {
    const Verdict& verdict = run.verdicts[i];
    if (!is_green(verdict.outcome)) {
      out.push_back(case_of(verdict, ids[i], run));
      continue;
    }
    const std::string key = fingerprint({verdict.claim, verdict.rule, verdict.megatron,
                                         name(verdict.outcome), letters(verdict.evidence)});
    const auto [at, fresh] = groups.try_emplace(key, out.size(), 0);
    if (fresh) {
      out.push_back(case_of(verdict, ids[i], run));
    }
    if (++at->second.second > 1) {
      TestCase& first = out[at->second.first];
      first.layout.clear();
      first.name = case_name(verdict, fmt::format("{} layouts", at->second.second));
    }
  }
  return out;
}

/// Green cases of one claim as one, and then only so many of the others.
std::vector<TestCase> merged_by_claim(std::vector<TestCase> cases, std::size_t cases_max) {
  std::vector<TestCase> out;
  std::map<std::string, std::pair<std::size_t, std::size_t>> groups;
  std::size_t left_out = 0;
  TestCase::Status worst = TestCase::Status::Skipped;
  for (TestCase& one : cases) {
    if (one.status != TestCase::Status::Passed) {
      if (out.size() + 1 < cases_max) {
        out.push_back(std::move(one));
      } else {
        ++left_out;
        const bool fails =
            one.status == TestCase::Status::Failed || one.status == TestCase::Status::Error;
        worst = fails ? TestCase::Status::Failed : worst;
      }
      continue;
    }
    const auto [at, fresh] = groups.try_emplace(one.suite, out.size(), 0);
    if (fresh) {
      out.push_back(std::move(one));
    }
    out[at->second.first].name = fmt::format("{} rules hold", ++at->second.second);
  }
  if (left_out > 0) {
    TestCase more;
    more.id = "run.more";
    more.suite = "run";
    more.name = fmt::format("{} more cases that are not green", left_out);
    more.status = worst;
    more.outcome = worst == TestCase::Status::Failed ? "Refuted" : "Waived";
    more.message = more.name + ": verdicts.json lists them";
    out.push_back(std::move(more));
  }
  return out;
}

TestCase case_of(const Finding& finding, std::string suite, const std::string& outcome) {
  TestCase out;
  out.id = suite + "." + finding.code + "." + finding.fingerprint.substr(0, 8);
  out.name = finding.code + " " + finding.title;
  out.suite = std::move(suite);
  out.status = TestCase::Status::Error;
  out.outcome = outcome;
  out.code = finding.code;
  out.message = finding.title;
  out.body = block_text(finding.block, kBodyMax);
  out.source_file = finding.source.file;
  out.source_line = finding.source.line;
  return out;
}

/// What no verdict says: unusable inputs, claims left out, a run that is not whole.
void add_others(const Run& run, std::vector<TestCase>& cases) {
  for (const ClaimSummary& claim : run.claims) {
    if (claim.skipped) {
      TestCase out;
      out.id = "claims." + claim.claim;
      out.suite = "claims";
      out.name = claim.claim;
      out.status = TestCase::Status::Skipped;
      out.outcome = "Skipped";
      out.message = "left out by --skip";
      cases.push_back(std::move(out));
    }
  }
  for (const Finding& finding : findings(run)) {
    if (finding.claim == "input") {
      cases.push_back(case_of(finding, "input", "Input"));
    } else if (finding.claim == "run" ||
               (finding.claim == "warning" && finding.level == Level::Error)) {
      cases.push_back(case_of(finding, "run", finding.claim == "run" ? "Undecided" : "Warning"));
      cases.back().status = TestCase::Status::Failed;
    }
  }
}

void make_names_unique(std::vector<TestCase>& cases) {
  std::set<std::pair<std::string, std::string>> taken;
  for (TestCase& one : cases) {
    one.name = readable(one.name);
    const std::string base = one.name;
    for (int again = 2; !taken.insert({one.suite, one.name}).second; ++again) {
      one.name = fmt::format("{} ({})", base, again);
    }
  }
}

}  // namespace

std::vector<TestCase> test_cases(const Run& run, std::size_t cases_max) {
  const std::vector<std::string> ids = unique_ids(run.verdicts);
  std::vector<TestCase> out;
  if (run.verdicts.size() <= cases_max) {
    for (std::size_t i = 0; i < run.verdicts.size(); ++i) {
      out.push_back(case_of(run.verdicts[i], ids[i], run));
    }
  } else {
    out = merged_by_rule(run, ids);
  }
  if (out.size() > cases_max) {
    out = merged_by_claim(std::move(out), cases_max);
  }
  add_others(run, out);
  make_names_unique(out);
  return out;
}

}  // namespace bv::reports
