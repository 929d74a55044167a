#pragma once
// Runs of the processes of a world, united as the command does it.

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/verdict/unite.hpp"
#include "core/verdict/verdicts_json.hpp"

namespace bv {

inline Verdict about_rule(std::string rule, Outcome outcome, std::string title = "") {
  Verdict out;
  out.claim = "gpu";
  out.rule = std::move(rule);
  out.layout = "tp1";
  out.outcome = outcome;
  out.code = Code::CpuGpuDiffer;
  out.title = std::move(title);
  out.cases = 3;
  out.refuted_cases = outcome == Outcome::Refuted ? 1 : 0;
  out.evidence.gpu = outcome == Outcome::Held;
  return out;
}

inline bv::Run found_by(std::vector<Verdict> verdicts) {
  bv::Run run;
  run.claims = {{.claim = "gpu"}};
  for (const Verdict& verdict : verdicts) {
    run.claims[0].subjects += verdict.claim == "gpu" ? verdict.cases : 0;
  }
  run.verdicts = std::move(verdicts);
  return run;
}

/// As it comes over a socket: the reader holds a document against its own counts.
inline bv::Run sent(const bv::Run& run) {
  const auto read = read_verdicts_json(verdicts_json(run));
  EXPECT_TRUE(read) << read.error().message;
  return read ? *read : bv::Run{};
}

/// The run of each process after all have told each other theirs.
inline std::vector<bv::Run> all_united(std::vector<bv::Run> runs) {
  std::vector<bv::Run> told;
  std::vector<std::string> names;
  for (const bv::Run& run : runs) {
    names.push_back("rank " + std::to_string(told.size()));
    told.push_back(sent(findings(run)));
  }
  for (bv::Run& run : runs) {
    unite(run, told, names);
    const bv::Run read = sent(run);  // what was united is a document like any other
    EXPECT_EQ(read.verdicts.size(), run.verdicts.size());
  }
  return runs;
}

}  // namespace bv
