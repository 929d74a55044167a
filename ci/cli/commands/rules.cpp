// rules list | rules show [NAME]: the kinds in the layout notation, and the rules of a family.

#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "ci/cli/session/families.hpp"
#include "ci/cli/session/foreign_rules.hpp"
#include "core/base/text.hpp"
#include "core/foreign/foreign_kinds.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/layout/notation.hpp"
#include "core/model/model.hpp"

namespace bv::cli {
namespace {

std::string kind_text(const layout::Rule& kind) {
  std::string out;
  for (std::size_t at = 0; at < kind.doc.size();) {
    const std::size_t end = std::min(kind.doc.find('\n', at), kind.doc.size());
    out += "# " + kind.doc.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return out + layout::print(kind) + "\n";
}

int show_all(Context& context, const kinds::Catalogue& catalogue) {
  std::string gap;
  for (const layout::Rule& kind : catalogue.rules()) {
    context.streams.out(gap + kind_text(kind));
    gap = "\n";
  }
  return 0;
}

/// Each rule of the family with the line of notation that it is an instance of.
void show_family(Context& context, const family::Family& family,
                 const kinds::Catalogue& catalogue) {
  for (const family::Rule& rule : family::rules(family)) {
    std::vector<std::string> sources;
    for (const auto& [source, name] : rule.hf) {
      sources.push_back(source + "=" + name);
    }
    const layout::Rule* kind = catalogue.find(rule.kind);
    context.streams.out(fmt::format(
        "{} {}  {}\n    hf     {}\n    kind   {}\n", rule.id, family::stage_name(family, rule),
        rule.megatron, join(sources, " "), kind == nullptr ? rule.kind : layout::print(*kind)));
    std::vector<std::string> axes;
    for (const auto& [axis, size] : rule.axes) {
      axes.push_back(axis + "=" + size);
    }
    if (!axes.empty()) {
      context.streams.out(fmt::format("    axes   {}\n", join(axes, " ")));
    }
    if (!rule.value.empty()) {
      context.streams.out(fmt::format("    value  {}\n", text(rule.value)));
    }
  }
}

int show_one(Context& context, const Options& options, const kinds::Catalogue& catalogue,
             const std::string& wanted) {
  if (const layout::Rule* kind = catalogue.find(wanted)) {
    context.streams.out(kind_text(*kind));
    return 0;
  }
  const auto families = load_families(options);
  if (!families) {
    return report_error(context, options, families.error());
  }
  std::vector<std::string> names;
  for (const family::FamilyPtr& family : *families) {
    if (family::name(*family) == wanted) {
      show_family(context, *family, catalogue);
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
  context.streams.out("\nin a rules file: kind or class, and the kind that it stands for\n");
  for (const foreign::ForeignKind& kind : kinds->kinds) {
    for (const std::string& name : kind.planted ? std::vector<std::string>() : kind.names) {
      context.streams.out(
          fmt::format("{:<36} {}\n", name,
                      kind.is_auto ? "column, row or replicated by the module" : kind.line.kind));
    }
  }
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
    for (const layout::Rule& kind : catalogue->rules()) {
      context.streams.out(
          fmt::format("{:<16} {}\n", kind.name, kind.doc.substr(0, kind.doc.find('\n'))));
    }
    return list_names(context, options);
  }
  if (action == "show" && options.operands.size() <= 2) {
    const std::string wanted = options.operands.size() == 2 ? options.operands[1] : options.family;
    return wanted.empty() ? show_all(context, *catalogue)
                          : show_one(context, options, *catalogue, wanted);
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
