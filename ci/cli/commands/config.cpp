// config show: what every option is without a command line, and who says so.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/options/layers.hpp"
#include "ci/cli/session/settings.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"

namespace bv::cli {
namespace {

struct Row {
  std::string name, text, origin, place;
};

/// The strongest entry that names the option; its default without one.
Row row_of(const OptionSpec& spec, const std::vector<std::vector<LayerEntry>>& layers) {
  for (const std::vector<LayerEntry>& layer : layers) {
    for (const LayerEntry& entry : layer) {
      if (entry.spec == &spec) {
        return {std::string(spec.name), join(entry.texts, " "),
                entry.origin == Origin::File ? "file" : "environment",
                entry.origin == Origin::File ? entry.place
                                             : entry.written.substr(0, entry.written.find('='))};
      }
    }
  }
  return {std::string(spec.name), std::string(spec.fallback), "default", ""};
}

Result<std::vector<Row>> rows(const Context& context) {
  std::vector<std::string> ignored;
  std::vector<std::vector<LayerEntry>> layers;
  BV_TRY(variables, environment_layer(context.environment, ignored));
  layers.push_back(std::move(variables));
  BV_TRY(files, read_settings(context.environment, context.folder));
  for (const SettingsText& file : files) {
    BV_TRY(entries, settings_layer(file));
    layers.push_back(std::move(entries));
  }
  std::vector<Row> out;
  for (const OptionSpec& spec : option_specs()) {
    if (spec.listed && spec.name != "help" && spec.name != "version") {
      out.push_back(row_of(spec, layers));
    }
  }
  return out;
}

std::string json_of(const std::vector<Row>& rows) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    out.push_back(
        {{"name", row.name},
         {"value", row.text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(row.text)},
         {"origin", row.origin},
         {"place",
          row.place.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(row.place)}});
  }
  return json_text(nlohmann::ordered_json({{"schema", "bridge-settings/1"}, {"settings", out}}),
                   2) +
         "\n";
}

}  // namespace

int run_config(Context& context, const Options& options) {
  if (options.operands != std::vector<std::string>{"show"}) {
    return report_error(
        context, options,
        (options.operands.empty()
             ? fail(Code::BadValue, "config needs one verb: show")
             : fail(Code::UnknownOption, fmt::format("config has no subcommand \"{}\"",
                                                     escaped(join(options.operands, " ")))))
            .advise("bridge-verify config show"));
  }
  const auto found = rows(context);
  if (!found) {
    return report_error(context, options, found.error());
  }
  if (options.json) {
    context.streams.out(json_of(*found));
    return 0;
  }
  const bool ascii = style_for(context, options, context.out_is_terminal).ascii;
  for (const Row& row : *found) {
    context.streams.out(
        fmt::format("{:<40} {:<20} {}\n", row.name,
                    row.text.empty() ? "-" : reports::printable(row.text, ascii),
                    row.place.empty() ? row.origin : reports::printable(row.place, ascii)));
  }
  return 0;
}

}  // namespace bv::cli
