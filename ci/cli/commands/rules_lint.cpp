// rules lint FILE...: rule sets by themselves, or put on a model.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "ci/cli/session/foreign_rules.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "core/foreign/lint.hpp"
#include "reports/error_text.hpp"
#include "reports/wrap.hpp"

namespace bv::cli {
namespace {

using foreign::LintFinding;
using Severity = LintFinding::Severity;

std::string_view name_of(Severity severity) {
  switch (severity) {
    case Severity::Error:
      return "error";
    case Severity::Unsupported:
      return "unsupported";
    case Severity::Undecided:
      return "undecided";
    case Severity::Warning:
      return "warning";
  }
  return "error";
}

nlohmann::ordered_json row_of(const LintFinding& finding) {
  return {{"code", label(finding.code)}, {"severity", name_of(finding.severity)},
          {"rule", finding.rule},        {"source", finding.source},
          {"message", finding.message},  {"facts", finding.facts},
          {"found", finding.found},      {"wanted", finding.wanted},
          {"help", finding.help}};
}

void show(Context& context, const Options& options, const LintFinding& finding) {
  if (options.verbosity() < (finding.severity == Severity::Error ? -1 : 0)) {
    return;
  }
  reports::Block block;
  block.word = name_of(finding.severity);
  block.code = finding.code;
  block.title = finding.message;
  block.where = finding.source;
  block.facts = finding.facts;
  block.tails = {{"found", finding.found}, {"wanted", finding.wanted}, {"help", finding.help}};
  context.streams.out(
      reports::render_block(block, style_for(context, options, context.out_is_terminal)) + "\n");
}

/// The first findings of each code; how many of it are not shown.
void show_all(Context& context, const Options& options, const std::vector<LintFinding>& findings) {
  constexpr std::size_t kShownOfCode = 8;
  std::map<Code, std::size_t> seen;
  for (const LintFinding& finding : findings) {
    if (++seen[finding.code] <= kShownOfCode) {
      show(context, options, finding);
    }
  }
  for (const auto& [code, count] : seen) {
    if (count > kShownOfCode) {
      context.streams.out(fmt::format("{} more of {} are not shown; --json lists every finding\n",
                                      count - kShownOfCode, label(code)));
    }
  }
}

/// What one file came to.
struct Linted {
  std::vector<LintFinding> findings;
  std::size_t rules = 0;
  [[nodiscard]] std::size_t of(Severity severity) const {
    return static_cast<std::size_t>(
        std::count_if(findings.begin(), findings.end(),
                      [severity](const LintFinding& one) { return one.severity == severity; }));
  }
  [[nodiscard]] int code(const Options& options) const {
    const bool warnings_fail = options.strict || options.fail_on == "warning";
    if (of(Severity::Error) > 0 || (warnings_fail && of(Severity::Warning) > 0)) {
      return 1;
    }
    const bool open = of(Severity::Unsupported) + of(Severity::Undecided) > 0;
    return open && options.fail_on != "refuted" ? 3 : 0;
  }
};

/// Errors: those of read_rules; Assertion, when a table of ours is wrong.
Result<Linted> lint_file(const std::string& file) {
  BV_TRY(read, read_rules(file));
  BV_TRY(kinds, foreign::foreign_kinds(read.rules));
  return Linted{foreign::lint_rules(read.rules, kinds), read.rules.rules.size()};
}

/// Options of the command line that say something of a model, where none is given; and a rules file
/// beside those that are named.
std::vector<std::string> idle_notes(const Options& options, bool with_model) {
  std::vector<std::string> out;
  for (const Setting& setting : options.given) {
    if (setting.origin != Origin::CommandLine) {
      continue;
    }
    const auto spec = std::find_if(option_specs().begin(), option_specs().end(),
                                   [&](const OptionSpec& one) { return one.name == setting.name; });
    const bool of_model =
        spec != option_specs().end() && (spec->group == "model" || spec->group == "layout" ||
                                         (spec->group == "selection" && setting.name != "strict"));
    if (setting.name == "rules" && options.operands.size() > 1) {
      out.push_back("--rules changes nothing: the files are named without it");
    } else if (setting.name != "rules" && of_model && !with_model) {
      out.push_back(fmt::format("--{} changes nothing: no model is given", setting.name));
    }
  }
  return out;
}

nlohmann::ordered_json document_of(const std::string& file, const Linted& linted,
                                   const std::vector<std::string>& notes) {
  auto rows = nlohmann::ordered_json::array();
  for (const LintFinding& finding : linted.findings) {
    rows.push_back(row_of(finding));
  }
  nlohmann::ordered_json out = {{"file", file}, {"rules", linted.rules}, {"findings", rows}};
  if (!notes.empty()) {
    out["notes"] = notes;
  }
  return out;
}

void show_text(Context& context, const Options& options, const std::string& file,
               const Linted& linted) {
  show_all(context, options, linted.findings);
  const std::size_t open = linted.of(Severity::Unsupported) + linted.of(Severity::Undecided);
  const std::string line =
      fmt::format("{}: {}, {}, {}{}", escaped(file), counted(linted.rules, "rule"),
                  counted(linted.of(Severity::Error), "error"),
                  counted(linted.of(Severity::Warning), "warning"),
                  open == 0 ? "" : fmt::format(", {} not judged", open));
  const int width = style_for(context, options, context.out_is_terminal).width;
  context.streams.out(reports::wrapped(line, 0, "  ", static_cast<std::size_t>(width)) + "\n");
}

/// The worst exit code: what cannot be read, then what is wrong, then what is not judged.
int worse(int a, int b) {
  constexpr std::array kOrder = {0, 3, 1, 5, 2, 4};
  const auto rank = [&](int code) { return std::find(kOrder.begin(), kOrder.end(), code); };
  return rank(a) < rank(b) ? b : a;
}

/// The same claims as `check` makes, so that the two never disagree.
int check_with(Context& context, const Options& options, const std::string& file) {
  Options check = options;
  check.command = "check";
  check.operands.clear();
  check.rules = file;
  check.level = "headers";
  std::erase_if(check.given,
                [](const Setting& one) { return one.name == "rules" || one.name == "level"; });
  check.given.push_back({"rules", file, Origin::CommandLine, "--rules " + file});
  return run_check(context, check);
}

}  // namespace

int run_rules_lint(Context& context, const Options& options) {
  std::vector<std::string> files(options.operands.begin() + 1, options.operands.end());
  if (files.empty() && !options.rules.empty()) {
    files.push_back(options.rules);
  }
  if (files.empty()) {
    return report_error(context, options,
                        fail(Code::BadValue, "rules lint needs a rules file")
                            .advise("bridge-verify rules lint FILE, or - for stdin"));
  }
  const bool with_model = !options.model.empty() || !options.headers.empty();
  const std::vector<std::string> notes = idle_notes(options, with_model);
  if (!options.json && options.verbosity() >= 0) {
    for (const std::string& note : notes) {
      context.streams.out("note     " + note + "\n");
    }
  }
  auto documents = nlohmann::ordered_json::array();
  int code = 0;
  for (const std::string& file : files) {
    if (with_model) {
      code = worse(code, check_with(context, options, file));
      continue;
    }
    const auto linted = lint_file(file);
    if (!linted) {
      code = worse(code, report_error(context, options, linted.error()));
      continue;
    }
    if (options.json) {
      documents.push_back(document_of(file, *linted, notes));
    } else {
      show_text(context, options, file, *linted);
    }
    code = worse(code, linted->code(options));
  }
  if (options.json && !with_model && !documents.empty()) {
    const nlohmann::ordered_json out = files.size() == 1 ? documents.front() : documents;
    context.streams.out(json_text(out, 2) + "\n");
  }
  return code;
}

}  // namespace bv::cli
