#pragma once
// Runs to render: one with every outcome, and one whose every text is hostile.

#include <string>

#include "core/verdict/verdict.hpp"

namespace bv::reports::testing {

inline Verdict sample_verdict(std::string rule, std::string layout, Outcome outcome, Code code) {
  Verdict out;
  out.claim = "placement";
  out.rule = std::move(rule);
  out.kind = "column";
  out.rule_source = "src/models/x_bridge.py:257";
  out.layout = std::move(layout);
  out.outcome = outcome;
  out.code = code;
  out.evidence = {.proved = true, .oracle = true};
  out.megatron = "decoder.layers.*.in_proj.weight";
  out.hf = {"model.layers.*.in_proj.weight"};
  out.cases = 3;
  if (outcome == Outcome::Proved || outcome == Outcome::Held) {
    return out;
  }
  out.refuted_cases = outcome == Outcome::Refuted ? 2 : 0;
  out.title = "rows are on the wrong rank";
  out.facts = {"rank tp0 wanted  q[0:4] k[0:2]", "rank tp0 found   q[0:6]"};
  out.found = "q[0:6]";
  out.wanted = "q[0:4] k[0:2]";
  out.help = "cut each part";
  out.replay = "bridge-verify check --model tiny --only placement";
  return out;
}

inline bv::Run sample_run() {
  bv::Run run;
  run.tool = {"bridge-verify", "0.1.0", "0123456789ab", "cpu", "g++"};
  run.command = "check";
  run.level = "headers";
  run.model_ref = "org/tiny";
  run.family = "tiny";
  run.tensors = 3;
  run.bytes = 96;
  run.layouts = {{"tp1"}, {"tp2", 2, 1, 1, 1, 1, 1, 2}};
  run.claims = {{.claim = "placement", .title = "same rows", .subjects = 27, .noun = "tensors"},
                {.claim = "bytes", .title = "every byte", .requested = false}};
  run.verdicts = {sample_verdict("r1", "tp1", Outcome::Proved, Code::Assertion),
                  sample_verdict("r1", "tp2", Outcome::Proved, Code::Assertion),
                  sample_verdict("r2", "tp1", Outcome::Held, Code::Assertion),
                  sample_verdict("r3", "tp1", Outcome::Refuted, Code::WrongPlacement),
                  sample_verdict("r3", "tp2", Outcome::Refuted, Code::WrongPlacement),
                  sample_verdict("r4", "", Outcome::Inconclusive, Code::NoTargetLayout),
                  sample_verdict("r5", "", Outcome::Unsupported, Code::QuantisedSource),
                  sample_verdict("r6", "tp1", Outcome::Waived, Code::WrongPlacement),
                  sample_verdict("r7", "tp1", Outcome::Broken, Code::OracleDisagrees)};
  run.verdicts[7].waiver = "waivers.toml:3:1";
  run.verdicts[7].evidence.waived = true;
  run.waivers = {{"BV2006", "decoder.*", "*", "known", "https://e.org/1", "", "2027-01-01",
                  "waivers.toml:3:1", 1, false}};
  run.warnings = {fail(Code::RuleDead, "rule r9 matches nothing").at("x.json:4").advise("delete")};
  run.input_errors = {fail(Code::CacheIncomplete, "1 of 2 shards is missing").advise("fetch it")};
  run.notes = {"a note"};
  run.started = "2026-01-01T00:00:00Z";
  run.seconds = 1.5;
  run.host = "here";
  return run;
}

inline const std::string& hostile_text() {
  static const std::string text =
      std::string("=1+1|</script><!--]]>\"'&`@x*_#\r\n::error::%0A") + '\0' +
      "\x1b[2J\x7f\xff\xc0\xaf\xe2\x80\xae\xef\xbf\xbf\xed\xa0\x80 \xf0\x9f\x98\x80 ``` __proto__";
  return text;
}

/// Every text that can come from outside is the hostile one.
inline bv::Run hostile_run() {
  const std::string& bad = hostile_text();
  bv::Run run = sample_run();
  for (std::string* text :
       {&run.model_ref, &run.model_source, &run.architecture, &run.model_type, &run.family,
        &run.family_reason, &run.revision, &run.rules_digest, &run.rules_repository,
        &run.rules_commit, &run.header_digest, &run.layouts_note, &run.next, &run.next_note,
        &run.host, &run.started, &run.command}) {
    *text = bad;
  }
  run.notes = {bad};
  run.settings = {{bad, bad, bad}};
  run.detected = {{bad, bad, bad}};
  run.layouts.push_back({bad});
  run.claims.push_back({.claim = bad, .title = bad, .note = bad, .noun = bad});
  for (Verdict& verdict : run.verdicts) {
    for (std::string* text :
         {&verdict.kind, &verdict.rule_source, &verdict.layout, &verdict.megatron, &verdict.title,
          &verdict.found, &verdict.wanted, &verdict.extent, &verdict.why, &verdict.help,
          &verdict.replay, &verdict.waiver, &verdict.rule}) {
      *text = bad;
    }
    verdict.hf = {bad, bad};
    verdict.facts = {bad, "rank " + bad + " wanted  " + bad};
    verdict.counterexamples = {{bad, bad, {1}, {bad, {1}}, {bad, {2}}, bad, bad}};
  }
  run.waivers = {{bad, bad, bad, bad, bad, bad, bad, bad, 1, false}};
  run.warnings = {fail(Code::RuleDead, bad).at(bad).fact(bad).pair(bad, bad + "x").advise(bad)};
  run.input_errors = run.warnings;
  run.baseline = Baseline{bad, 1, {{bad, bad, bad, bad, bad}}};
  return run;
}

}  // namespace bv::reports::testing
