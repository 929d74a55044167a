// models list | models show NAME: the families known by file.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/session/families.hpp"
#include "core/base/text.hpp"
#include "core/model/model.hpp"

namespace bv::cli {
namespace {

void list_families(Context& context, const Options& options,
                   const std::vector<family::FamilyPtr>& families) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const family::FamilyPtr& family : families) {
    if (options.json) {
      rows.push_back({{"name", family::name(*family)},
                      {"architectures", family::architectures(*family)},
                      {"model_types", family::model_types(*family)},
                      {"rules", family::rules(*family).size()}});
      continue;
    }
    context.streams.out(fmt::format("{:<30} {:>4} rules  {}\n", family::name(*family),
                                    family::rules(*family).size(),
                                    join(family::architectures(*family), " ")));
  }
  if (options.json) {
    context.streams.out(rows.dump(2) + "\n");
  }
}

void show_family(Context& context, const Options& options, const family::Family& family) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::string text = fmt::format(
      "{}\n{}\narchitectures  {}\nmodel types    {}\n\n", family::name(family), family::doc(family),
      join(family::architectures(family), " "), join(family::model_types(family), " "));
  for (const family::Rule& rule : family::rules(family)) {
    std::vector<std::string> hf;
    nlohmann::ordered_json sources = nlohmann::ordered_json::object();
    for (const auto& [source, name] : rule.hf) {
      hf.push_back(name);
      sources[source] = name;
    }
    rows.push_back({{"id", rule.id},
                    {"kind", rule.kind},
                    {"megatron", rule.megatron},
                    {"hf", sources},
                    {"when", rule.when}});
    text += fmt::format("{:<4} {:<14} {}\n", rule.id, rule.kind, rule.megatron);
    text += fmt::format("{:20}<- {}\n", "", join(hf, ", "));
    if (!rule.when.empty()) {
      text += fmt::format("{:20}when {}\n", "", join(rule.when, ", "));
    }
  }
  context.streams.out(
      options.json ? nlohmann::ordered_json({{"name", family::name(family)},
                                             {"architectures", family::architectures(family)},
                                             {"model_types", family::model_types(family)},
                                             {"rules", rows}})
                             .dump(2) +
                         "\n"
                   : text);
}

}  // namespace

int run_models(Context& context, const Options& options) {
  const auto families = load_families(options);
  if (!families) {
    return report_error(context, options, families.error());
  }
  const std::string action = options.operands.empty() ? "list" : options.operands.front();
  if (action == "list" && options.operands.size() <= 1) {
    list_families(context, options, *families);
    return 0;
  }
  if (action != "show" || options.operands.size() != 2) {
    return report_error(
        context, options,
        fail(Code::UnknownOption,
             fmt::format("models cannot do \"{}\"", escaped(join(options.operands, " "))))
            .advise("bridge-verify models list, or bridge-verify models show NAME"));
  }
  std::vector<std::string> names;
  for (const family::FamilyPtr& family : *families) {
    if (family::name(*family) == options.operands[1]) {
      show_family(context, options, *family);
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
