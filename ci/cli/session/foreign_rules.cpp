#include "ci/cli/session/foreign_rules.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "core/checkpoint/open_model.hpp"
#include "core/foreign/lint.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/shown.hpp"
#include "core/foreign/usual.hpp"
#include "core/io/digest.hpp"
#include "core/io/writer.hpp"

namespace bv::cli {
namespace {

Result<std::string> read_stdin() {
  std::string out;
  std::array<char, 65536> block{};
  while (out.size() <= foreign::kRulesFileBytesMax) {
    const auto count = ::read(STDIN_FILENO, block.data(), block.size());
    if (count < 0) {
      return fail(Code::ReadFailed, "the rules cannot be read from stdin")
          .advise("give the name of a file");
    }
    if (count == 0) {
      return out;
    }
    out.append(block.data(), static_cast<std::size_t>(count));
  }
  return out;  // too large: refused where it is parsed
}

Error warning_of(const foreign::LintFinding& finding) {
  Error out = fail(finding.code, finding.message)
                  .at(finding.source)
                  .pair(finding.found, finding.wanted)
                  .advise(finding.help);
  out.facts = finding.facts;
  return out;
}

/// What lint says of the rule set besides the faults of single rules, which are verdicts.
std::vector<Error> warnings_of(const foreign::RulesUnderTest& test, const Headers& headers,
                               bool tied) {
  std::vector<Error> out;
  for (const foreign::LintFinding& finding : foreign::lint_rules(test.rules, test.kinds)) {
    if (info(finding.code).severity == Severity::Warning) {
      out.push_back(warning_of(finding));
    }
  }
  foreign::ForeignRules asked = test.rules;
  std::erase_if(asked.rules, [tied](const foreign::ForeignRule& rule) {
    return tied && rule.megatron.ends_with(foreign::kOutput);  // a tied model has no such parameter
  });
  for (const foreign::LintFinding& finding : foreign::idle_rules(asked, headers)) {
    out.push_back(warning_of(finding));
  }
  return out;
}

}  // namespace

Result<RulesText> read_rules(const std::string& path) {
  BV_TRY(text, path == "-" ? read_stdin()
                           : io::read_file(path, foreign::kRulesFileBytesMax, Code::RulesInvalid));
  BV_TRY(rules, foreign::parse_rules_file(text, path == "-" ? "stdin" : path));
  io::Digest digest;
  digest.add(text);
  return RulesText{std::move(rules), digest.hex()};
}

Status use_foreign_rules(const Options& options, OpenedModel& opened) {
  checkpoint::HfModel& hf = opened.hf;
  if (options.rules.empty()) {
    return Done{};
  }
  BV_TRY(read, read_rules(options.rules));
  BV_TRY(kinds, foreign::foreign_kinds(read.rules));
  foreign::RulesUnderTest test;
  test.rules = std::move(read.rules);
  test.digest = std::move(read.digest);
  test.kinds = std::move(kinds);
  test.wanted = std::move(hf.model);
  test.alone = foreign::is_usual(test.wanted);
  foreign::AppliedRules applied;
  if (test.alone) {
    BV_TRY(config, checkpoint::parse_config(hf.config_text, "config.json"));
    BV_TRY(alone, foreign::apply_rules_alone(test.wanted, config, test.rules, test.kinds,
                                             hf.headers, hf.resolve));
    applied = std::move(alone);
  } else {
    BV_TRY(by_family,
           foreign::apply_rules(test.wanted, test.rules, test.kinds, hf.headers, hf.resolve));
    applied = std::move(by_family);
  }
  hf.model = std::move(applied.model);
  test.open = std::move(applied.open);
  test.warnings = warnings_of(test, hf.headers, hf.model.tied);
  opened.under_test = std::make_shared<const foreign::RulesUnderTest>(std::move(test));
  return Done{};
}

void describe_rules(const OpenedModel& opened, Run& run) {
  const bool listed = opened.under_test != nullptr && opened.under_test->rules.parameters;
  const model::Model& wanted =
      opened.under_test == nullptr ? opened.hf.model : opened.under_test->wanted;
  if (!listed) {  // a list of the built model decides what these notes are about
    for (std::string& note : foreign::upstream_differences(wanted)) {
      run.notes.push_back(std::move(note));
    }
  }
  if (opened.under_test == nullptr) {
    return;
  }
  const foreign::RulesUnderTest& test = *opened.under_test;
  const foreign::ForeignRules& rules = test.rules;
  run.family = rules.bridge_class.empty() ? rules.file : rules.bridge_class;
  const std::string file = "from " + rules.file;
  run.family_reason =
      test.alone ? fmt::format("{}; {}: by the Megatron modules", file, why_alone(opened.hf))
                 : fmt::format("{}, held against family {}, {}", file,
                               family::name(*test.wanted.family), opened.hf.chosen.because);
  for (const std::string& line : rules.trouble) {
    run.notes.push_back("trouble of the export: " + foreign::shown(line));
  }
  run.rules = static_cast<std::int64_t>(rules.rules.size());
  run.rules_digest = test.digest;
  run.rules_repository = rules.repository;
  run.rules_commit = rules.commit;
  run.warnings.insert(run.warnings.end(), test.warnings.begin(), test.warnings.end());
}

Result<kinds::Catalogue> catalogue_for_rules(const std::string& rules_file) {
  if (rules_file.empty() || rules_file == "-") {
    BV_TRY(kinds, foreign::foreign_kinds());
    return std::move(kinds.lines);
  }
  BV_TRY(read, read_rules(rules_file));
  BV_TRY(kinds, foreign::foreign_kinds(read.rules));
  return std::move(kinds.lines);
}

}  // namespace bv::cli
