// explain: what a code, a claim or a result means.

#include <fmt/format.h>

#include <algorithm>

#include "ci/cli/command.hpp"
#include "core/base/text.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/catalogue.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::cli {
namespace {

struct Topic {
  std::string_view name;
  std::string_view text;
};

constexpr std::array kResults = {
    Topic{"proved", "true for every value: shown from headers and rules, no weights needed"},
    Topic{"held", "true for everything that was looked at: bytes that were moved, or samples"},
    Topic{"refuted", "false: there is a counterexample, and the block shows it"},
    Topic{"inconclusive",
          "nobody knows: something that is needed is missing, or the run was "
          "stopped; the table says undecided"},
    Topic{"unsupported", "this version cannot decide it"},
    Topic{"waived",
          "refuted or undecided, and accepted until a day by a waivers file that names "
          "the issue"},
    Topic{"broken", "a fault of bridge-verify: nothing of that claim counts"},
};

std::string fitted(std::string_view text, const reports::TextStyle& style) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += reports::wrapped(text.substr(0, end), 0, "", static_cast<std::size_t>(style.width));
    out += "\n";
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

/// One below the other; the texts begin in one column, two behind the longest name.
std::string entries(const std::vector<Topic>& topics, const reports::TextStyle& style) {
  std::size_t column = 16;
  for (const Topic& topic : topics) {
    column = std::max(column, topic.name.size() + 4);
  }
  std::string out;
  for (const Topic& topic : topics) {
    out += fmt::format("  {:<{}}", topic.name, column - 2) +
           reports::wrapped(topic.text, column, std::string(column, ' '),
                            static_cast<std::size_t>(style.width)) +
           "\n";
  }
  return out;
}

std::string list_text(const reports::TextStyle& style) {
  std::vector<Topic> of_models;
  for (const claims::Claim& claim : claims::catalogue()) {
    of_models.push_back({claim.id, claim.title});
  }
  std::vector<Topic> of_adapters;
  for (const claims::AdapterClaim& claim : claims::kAdapterCatalogue) {
    of_adapters.push_back({claim.id, claim.title});
  }
  std::vector<std::string> labels;  // what the topics view
  for (const CodeInfo& code : all_codes()) {
    labels.push_back(label(code.code));
  }
  std::vector<Topic> codes;
  for (const CodeInfo& code : all_codes()) {
    codes.push_back({labels[codes.size()], code.title});
  }
  return "results: bridge-verify explain results\n\nclaims:\n" + entries(of_models, style) +
         "\nclaims about adapters:\n" + entries(of_adapters, style) + "\ncodes:\n" +
         entries(codes, style);
}

std::string results_text(const reports::TextStyle& style) {
  std::string out =
      "A verdict is about one claim, one rule and one layout. Its result is one of:\n\n";
  out += entries({kResults.begin(), kResults.end()}, style);
  return out + "\n" +
         fitted(
             "Only proved, held and waived are green. A run passes when at least one claim was "
             "checked and every verdict is green.",
             style);
}

std::string claim_text(const claims::Claim& claim, const reports::TextStyle& style) {
  return fitted(fmt::format("{}: {}", claim.id, claim.statement), style) + "\n" +
         fitted(fmt::format("How it is known: {}.", claim.known_by), style) +
         fitted(fmt::format("Counted in: {}.", claim.noun), style) +
         fitted(fmt::format("Asked at --level {} and above, or with --only {}.",
                            claims::name(claim.level), claim.id),
                style);
}

std::string adapter_claim_text(const claims::AdapterClaim& claim, const reports::TextStyle& style) {
  return fitted(fmt::format("{}: {}", claim.id, claim.statement), style) + "\n" +
         fitted(fmt::format("How it is known: {}.", claim.known_by), style) +
         fitted(fmt::format("Counted in: {}.", claim.noun), style) +
         fitted(fmt::format("Asked {}.", claim.asked), style);
}

/// The page of a code for a terminal: without the mark of a Markdown heading.
std::string code_text(Code code, const reports::TextStyle& style) {
  return fitted(code_page(code).substr(2), style);
}

Result<std::string> text_of(const std::string& word, const reports::TextStyle& style) {
  std::vector<std::string> names = {"results"};
  if (word == "results") {
    return results_text(style);
  }
  for (const Topic& topic : kResults) {
    names.emplace_back(topic.name);
    if (topic.name == word) {
      return entries({topic}, style);
    }
  }
  for (const claims::Claim& claim : claims::catalogue()) {
    names.emplace_back(claim.id);
    if (claim.id == word) {
      return claim_text(claim, style);
    }
  }
  for (const claims::AdapterClaim& claim : claims::kAdapterCatalogue) {
    names.emplace_back(claim.id);
    if (claim.id == word) {
      return adapter_claim_text(claim, style);
    }
  }
  const auto code = code_from_text(word);
  for (const CodeInfo& one : all_codes()) {
    names.push_back(label(one.code));
    names.emplace_back(one.name);
    if (code == one.code || one.name == word) {
      return code_text(one.code, style);
    }
  }
  // Codes differ from each other in one digit: a near one is no better than another.
  const bool number = word.size() > 2 && (word.starts_with("BV") || word.starts_with("bv"));
  const auto near = number ? std::nullopt : nearest(word, names);
  return fail(Code::BadValue,
              fmt::format("there is no code, claim or result \"{}\"", escaped(word)))
      .advise(near ? fmt::format("bridge-verify explain {}", *near)
                   : "bridge-verify explain lists them");
}

}  // namespace

int run_explain(Context& context, const Options& options) {
  const reports::TextStyle style = style_for(context, options, context.out_is_terminal);
  if (options.operands.empty()) {
    context.streams.out(list_text(style));
    return 0;
  }
  if (options.operands.size() > 1) {
    return report_error(
        context, options,
        fail(Code::BadValue, fmt::format("explain takes one code, claim or result, not {}",
                                         options.operands.size()))
            .advise("bridge-verify explain " + escaped(options.operands.front())));
  }
  const auto text = text_of(options.operands.front(), style);
  if (!text) {
    return report_error(context, options, text.error());
  }
  context.streams.out(*text);
  return 0;
}

}  // namespace bv::cli
