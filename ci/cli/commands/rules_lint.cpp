// rules lint FILE, and --rules FILE for the commands that open a model.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ci/cli/session/fixture_model.hpp"
#include "ci/cli/session/foreign_rules.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/foreign/lint.hpp"
#include "core/io/headers_dump.hpp"
#include "core/io/writer.hpp"
#include "core/model/name_filter.hpp"
#include "core/quantised/quantised.hpp"
#include "reports/error_text.hpp"

namespace bv::cli {

Result<foreign::ForeignRules> read_rules(const std::string& path) {
  BV_TRY(text, io::read_file(path, foreign::kRulesFileBytesMax, Code::RulesInvalid));
  return foreign::parse_rules_file(text, path);
}

Status use_foreign_rules(const Options& options, OpenedModel& opened) {
  checkpoint::HfModel& hf = opened.hf;
  if (options.rules.empty()) {
    return Done{};
  }
  BV_TRY(rules, read_rules(options.rules));
  BV_TRY(kinds, foreign::foreign_kinds());
  foreign::RulesUnderTest test;
  test.rules = std::move(rules);
  test.kinds = std::move(kinds);
  test.wanted = std::move(hf.model);
  if (foreign::is_usual(test.wanted)) {
    BV_TRY(applied, foreign::apply_rules_alone(test.wanted, test.rules, test.kinds, hf.headers));
    hf.model = std::move(applied.model);
    test.open = std::move(applied.open);
    test.alone = true;
  } else {
    BV_TRY(applied, foreign::apply_rules(test.wanted, test.rules, test.kinds, hf.headers));
    hf.model = std::move(applied);
  }
  opened.under_test = std::make_shared<const foreign::RulesUnderTest>(std::move(test));
  return Done{};
}

Result<kinds::Catalogue> catalogue_for_rules() {
  BV_TRY(kinds, foreign::foreign_kinds());
  return kinds::Catalogue::parse(
      std::string(kinds::builtin_text()) + "\n" + foreign::foreign_lines(kinds),
      "kinds.layout and upstream_classes.json");
}

namespace {

/// The headers of the model. Errors: those of its form; QuantisedSource.
Result<Headers> all_headers(const Context& context, const Options& options) {
  BV_TRY(found, find_model(context, options));
  const io::LocatedModel& located = found.located;
  Headers headers;
  std::string config = "{}";
  std::error_code ignored;
  if (located.kind == io::ModelKind::HeadersDump) {
    BV_TRY(dump, io::read_headers_dump(located.path));
    headers = dump.headers();
    config = dump.config;
  } else {
    BV_TRY(checkpoint, io::Checkpoint::open(located.path, options.strict));
    headers = checkpoint.headers();
    const auto file = located.folder / "config.json";
    if (std::filesystem::exists(file, ignored)) {
      BV_TRY(text, io::read_file(file, checkpoint::kConfigBytesMax, Code::ConfigField));
      config = std::move(text);
    }
  }
  BV_TRY(json, checkpoint::parse_config(config, "config.json"));
  if (const auto source = quantised::find(headers, json)) {
    return quantised::refusal(*source);
  }
  return headers;
}

Result<Headers> headers_of(const Context& context, const Options& options) {
  BV_TRY(headers, all_headers(context, options));
  BV_TRY(left_out, model::excluded_names({{}, options.exclude}, headers));
  std::erase_if(headers, [&](const auto& header) { return left_out.contains(header.first); });
  return std::move(headers);
}

/// Megatron parameters of the model that no rule makes. Rules that cannot be applied have findings
/// of their own already.
void add_unmapped(const Context& context, const Options& options, const std::string& file,
                  std::vector<foreign::LintFinding>& findings) {
  Options with_rules = options;
  with_rules.rules = file;
  const auto library = load_library(options);
  const auto opened =
      library ? open_model(context, with_rules, *library) : Result<OpenedModel>(library.error());
  if (!opened) {
    const bool told = std::any_of(findings.begin(), findings.end(),
                                  [](const foreign::LintFinding& one) { return one.error; });
    if (!told) {
      const Error& error = opened.error();
      findings.push_back({error.code, true, "", error.where.empty() ? file : error.where,
                          "whether every parameter has a rule is not known: " + error.message,
                          error.found, error.wanted, error.help});
    }
    return;
  }
  for (const model::NameFault& fault : opened->hf.model.faults) {
    if (fault.code == Code::MegatronParamWithoutRule) {
      findings.push_back(
          {fault.code, true, "", file, fault.message, fault.found, fault.wanted, fault.help});
    }
  }
}

nlohmann::ordered_json row_of(const foreign::LintFinding& finding) {
  const auto kept = [](const std::string& text) { return bounded(text, kTextShownMax); };
  return {{"code", label(finding.code)},
          {"severity", finding.error ? "error" : "warning"},
          {"rule", bounded(finding.rule, kNameKeptMax)},
          {"source", kept(finding.source)},
          {"message", kept(finding.message)},
          {"found", kept(finding.found)},
          {"wanted", kept(finding.wanted)},
          {"help", kept(finding.help)}};
}

/// Bytes shown; 0 when the finding is too small for this verbosity.
std::size_t show(Context& context, const Options& options, const foreign::LintFinding& finding) {
  if (options.verbosity() < (finding.error ? -1 : 0)) {
    return 0;
  }
  Error error = fail(finding.code, finding.message)
                    .at(finding.source)
                    .pair(finding.found, finding.wanted)
                    .advise(finding.help);
  const std::string text =
      reports::render_error(error, style_for(context, options, context.out_is_terminal));
  context.streams.out(text);
  return text.size();
}

}  // namespace

int run_rules_lint(Context& context, const Options& options) {
  const std::string file = options.operands.size() == 2 ? options.operands[1] : options.rules;
  if (file.empty()) {
    return report_error(context, options,
                        fail(Code::BadValue, "rules lint needs a rules file")
                            .advise("bridge-verify rules lint FILE"));
  }
  const auto rules = read_rules(file);
  if (!rules) {
    return report_error(context, options, rules.error());
  }
  const auto kinds = foreign::foreign_kinds();
  if (!kinds) {
    return report_error(context, options, kinds.error());
  }
  std::optional<Headers> headers;
  if (!options.model.empty() || !options.headers.empty()) {
    auto read = headers_of(context, options);
    if (!read) {
      return report_error(context, options, read.error());
    }
    headers = std::move(*read);
  }
  auto findings = foreign::lint_rules(*rules, *kinds, headers ? &*headers : nullptr);
  if (headers) {
    add_unmapped(context, options, file, findings);
  }
  constexpr std::size_t kShownBytesMax = std::size_t{24} << 10;  // then no further finding begins
  std::size_t errors = 0;
  std::size_t bytes_shown = 0;
  std::size_t left_out = 0;
  auto rows = nlohmann::ordered_json::array();
  for (const foreign::LintFinding& finding : findings) {
    errors += finding.error;
    if (options.json) {
      rows.push_back(row_of(finding));
    } else if (bytes_shown < kShownBytesMax) {
      bytes_shown += show(context, options, finding);
    } else {
      ++left_out;
    }
  }
  if (left_out > 0) {
    context.streams.out(fmt::format("{} more findings: --json lists them\n", left_out));
  }
  const std::size_t warnings = findings.size() - errors;
  if (options.json) {
    context.streams.out(
        nlohmann::ordered_json{{"file", file}, {"rules", rules->rules.size()}, {"findings", rows}}
            .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
        "\n");
  } else {
    context.streams.out(fmt::format("{}: {} rules, {} errors, {} warnings\n", file,
                                    rules->rules.size(), errors, warnings));
  }
  const bool warnings_fail = options.strict || options.fail_on == "warning";
  return errors > 0 || (warnings_fail && warnings > 0) ? 1 : 0;
}

}  // namespace bv::cli
