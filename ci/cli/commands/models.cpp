// models list | models show NAME: the families known by file.

#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "ci/cli/session/families.hpp"
#include "core/base/text.hpp"
#include "core/model/model.hpp"
#include "reports/family_report.hpp"

namespace bv::cli {
namespace {

reports::FamilyReport report_of(const family::Family& family) {
  reports::FamilyReport out;
  out.name = family::name(family);
  out.doc = family::doc(family);
  out.architectures = family::architectures(family);
  out.model_types = family::model_types(family);
  for (const family::Rule& rule : family::rules(family)) {
    out.rules.push_back({rule.id, rule.kind, rule.megatron, {}, rule.when});
    for (const auto& [source, name] : rule.hf) {
      out.rules.back().hf.emplace_back(source, name);
    }
  }
  return out;
}

}  // namespace

int run_models(Context& context, const Options& options) {
  const auto families = load_families(options);
  if (!families) {
    return report_error(context, options, families.error());
  }
  const std::string action = options.operands.empty() ? "list" : options.operands.front();
  const reports::TextStyle style = style_for(context, options, context.out_is_terminal);
  if (action == "list" && options.operands.size() <= 1) {
    std::vector<reports::FamilyReport> all;
    for (const family::FamilyPtr& family : *families) {
      all.push_back(report_of(*family));
    }
    context.streams.out(options.json ? reports::families_json(all)
                                     : reports::families_text(all, style));
    return 0;
  }
  if (action != "show" || options.operands.size() != 2) {
    return report_error(
        context, options,
        fail(Code::UnknownOption,
             fmt::format("models has no subcommand \"{}\"", escaped(join(options.operands, " "))))
            .advise("bridge-verify models list, or bridge-verify models show NAME"));
  }
  std::vector<std::string> names;
  for (const family::FamilyPtr& family : *families) {
    if (family::name(*family) == options.operands[1]) {
      const reports::FamilyReport one = report_of(*family);
      context.streams.out(options.json ? reports::family_json(one)
                                       : reports::family_text(one, style));
      return 0;
    }
    names.push_back(family::name(*family));
  }
  const auto near = nearest(options.operands[1], names);
  return report_error(
      context, options,
      fail(Code::BadValue, fmt::format("there is no family \"{}\"", escaped(options.operands[1])))
          .advise(near ? "bridge-verify models show " + *near
                       : "bridge-verify models list names them"));
}

}  // namespace bv::cli
