// rules list | rules show [NAME]: the kinds in the layout notation, and the rules of a family.

#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "ci/cli/session/families.hpp"
#include "ci/cli/session/foreign_rules.hpp"
#include "ci/cli/session/session.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/foreign/foreign_kinds.hpp"
#include "core/foreign/written_rules.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/layout/notation.hpp"
#include "core/model/model.hpp"
#include "reports/rules_report.hpp"

namespace bv::cli {
namespace {

reports::KindLine line_of(const layout::Rule& kind) {
  return {kind.name, kind.doc, layout::print(kind)};
}

std::vector<reports::KindLine> lines_of(const kinds::Catalogue& catalogue) {
  std::vector<reports::KindLine> out;
  for (const layout::Rule& kind : catalogue.rules()) {
    out.push_back(line_of(kind));
  }
  return out;
}

/// Each rule of the family with the line of notation that it is an instance of.
std::vector<reports::RuleLine> rules_of(const family::Family& family,
                                        const kinds::Catalogue& catalogue) {
  std::vector<reports::RuleLine> out;
  for (const family::Rule& rule : family::rules(family)) {
    const layout::Rule* kind = catalogue.find(rule.kind);
    out.push_back({rule.id,
                   std::string(family::stage_name(family, rule)),
                   rule.megatron,
                   rule.hf,
                   kind == nullptr ? rule.kind : layout::print(*kind),
                   {rule.axes.begin(), rule.axes.end()},
                   text(rule.value)});
  }
  return out;
}

/// Those of its own sample: fixture:NAME.
int show_as_rules(Context& context, const Options& given, const std::string& name) {
  if (name.empty()) {
    return report_error(context, given,
                        fail(Code::BadValue, "rules show --as-rules needs the name of a family")
                            .advise("bridge-verify rules show llama --as-rules"));
  }
  Options options = given;
  options.family = name;
  options.model = given.model.empty() ? "fixture:" + name : given.model;
  const auto library = load_library(options);
  const auto kinds = foreign::foreign_kinds();
  if (!library || !kinds) {
    return report_error(context, given, library ? kinds.error() : library.error());
  }
  const auto opened = open_model(context, options, *library);
  if (!opened) {
    Error error = opened.error();
    if (given.model.empty() && error.code == Code::BadValue) {  // a family of --families
      error.help = fmt::format("give a model of this family: rules show {} --as-rules --model DIR",
                               shell_quoted(name));
    }
    return report_error(context, given, error);
  }
  context.streams.out(foreign::written_rules(opened->hf.model, *kinds));
  return 0;
}

std::size_t columns_of(const Context& context, const Options& options) {
  return static_cast<std::size_t>(style_for(context, options, context.out_is_terminal).width);
}

int show_one(Context& context, const Options& options, const kinds::Catalogue& catalogue,
             const std::string& wanted) {
  if (const layout::Rule* kind = catalogue.find(wanted)) {
    context.streams.out(reports::kinds_text({line_of(*kind)}, columns_of(context, options)));
    return 0;
  }
  const auto families = load_families(options);
  if (!families) {
    return report_error(context, options, families.error());
  }
  std::vector<std::string> names;
  for (const family::FamilyPtr& family : *families) {
    if (family::name(*family) == wanted) {
      context.streams.out(
          reports::rule_lines_text(rules_of(*family, catalogue), columns_of(context, options)));
      return 0;
    }
    names.push_back(family::name(*family));
  }
  for (const layout::Rule& kind : catalogue.rules()) {
    names.push_back(kind.name);
  }
  const auto near = nearest(wanted, names);
  return report_error(
      context, options,
      fail(Code::BadValue, fmt::format("there is no family or kind \"{}\"", escaped(wanted)))
          .advise(near ? "bridge-verify rules show " + *near
                       : "bridge-verify rules list names the kinds"));
}

/// The words that a rules file may use as kind or class, and the kind that each stands for.
int list_names(Context& context, const Options& options) {
  const auto kinds = foreign::foreign_kinds();
  if (!kinds) {
    return report_error(context, options, kinds.error());
  }
  std::vector<reports::RuleWord> words;
  for (const foreign::ForeignKind& kind : kinds->kinds) {
    for (const std::string& name : kind.planted ? std::vector<std::string>() : kind.names) {
      words.push_back(
          {name, kind.is_auto ? "column, row or replicated by the module" : kind.line.kind});
    }
  }
  context.streams.out("\n" + reports::rule_words_text(words));
  return 0;
}

}  // namespace

int run_rules(Context& context, const Options& options) {
  const auto catalogue = kinds::load_catalogue();
  if (!catalogue) {
    return report_error(context, options, catalogue.error());
  }
  const std::string action = options.operands.empty() ? "list" : options.operands.front();
  if (action == "list" && options.operands.size() <= 1) {
    const auto width = style_for(context, options, context.out_is_terminal).width;
    context.streams.out(
        reports::kind_names_text(lines_of(*catalogue), static_cast<std::size_t>(width)));
    return list_names(context, options);
  }
  if (action == "show" && options.operands.size() <= 2) {
    const std::string wanted = options.operands.size() == 2 ? options.operands[1] : options.family;
    if (!options.model.empty() && !options.as_rules) {
      return report_error(context, options,
                          fail(Code::Conflict, "rules show --model belongs to --as-rules")
                              .advise("add --as-rules, or leave --model out"));
    }
    if (options.as_rules) {
      return show_as_rules(context, options, wanted);
    }
    if (!wanted.empty()) {
      return show_one(context, options, *catalogue, wanted);
    }
    context.streams.out(reports::kinds_text(lines_of(*catalogue), columns_of(context, options)));
    return 0;
  }
  if (action == "lint") {
    return run_rules_lint(context, options);
  }
  return report_error(
      context, options,
      fail(Code::UnknownOption,
           fmt::format("rules has no subcommand \"{}\"", escaped(join(options.operands, " "))))
          .advise("bridge-verify rules list, rules show [NAME], or rules lint FILE..."));
}

}  // namespace bv::cli
