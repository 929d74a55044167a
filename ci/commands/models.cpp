// models list | models show NAME: the families known by file.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ci/command.hpp"
#include "core/base/text.hpp"
#include "core/model/model.hpp"

namespace bv::cli {
namespace {

void list_families(Context& context, const Options& options,
                   const std::vector<model::FamilyPtr>& families) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const model::FamilyPtr& family : families) {
    if (options.json) {
      rows.push_back({{"name", model::name(*family)},
                      {"architectures", model::architectures(*family)},
                      {"model_types", model::model_types(*family)},
                      {"rules", model::rules(*family).size()}});
      continue;
    }
    context.streams.out(fmt::format("{:<30} {:>4} rules  {}\n", model::name(*family),
                                    model::rules(*family).size(),
                                    join(model::architectures(*family), " ")));
  }
  if (options.json) {
    context.streams.out(rows.dump(2) + "\n");
  }
}

void show_family(Context& context, const Options& options, const model::Family& family) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::string text = fmt::format(
      "{}\n{}\narchitectures  {}\nmodel types    {}\n\n", model::name(family), model::doc(family),
      join(model::architectures(family), " "), join(model::model_types(family), " "));
  for (const model::Rule& rule : model::rules(family)) {
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
  context.streams.out(options.json
                          ? nlohmann::ordered_json({{"name", model::name(family)},
                                                    {"architectures", model::architectures(family)},
                                                    {"model_types", model::model_types(family)},
                                                    {"rules", rows}})
                                    .dump(2) +
                                "\n"
                          : text);
}

}  // namespace

int run_models(Context& context, const Options& options) {
  const auto families = model::builtin_families();
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
  for (const model::FamilyPtr& family : *families) {
    if (model::name(*family) == options.operands[1]) {
      show_family(context, options, *family);
      return 0;
    }
    names.push_back(model::name(*family));
  }
  const auto near = nearest(options.operands[1], names);
  return report_error(
      context, options,
      fail(Code::BadValue, fmt::format("there is no family \"{}\"", escaped(options.operands[1])))
          .advise(near ? "bridge-verify models show " + *near
                       : "bridge-verify models list names them"));
}

}  // namespace bv::cli
