// fixture list | fixture make NAME --out DIR --seed N: tiny checkpoints of every family and storage
// form.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/options/command_text.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "fixtures/maker/earlier.hpp"
#include "fixtures/maker/maker.hpp"
#include "reports/wrap.hpp"

namespace bv::cli {
namespace {

Result<std::string> list_fixtures(const Options& options, const Library& library, int width) {
  BV_TRY(all, fixtures::builtin_fixtures());
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::string text;
  for (const fixtures::Fixture& fixture : all) {
    BV_TRY(plan, fixtures::plan_checkpoint(fixture, library.families, library.kinds));
    rows.push_back({{"name", fixture.name},
                    {"family", fixture.family},
                    {"doc", fixture.doc},
                    {"tensors", plan.tensors},
                    {"bytes", plan.bytes},
                    {"shards", plan.files.size()}});
    text += fmt::format("{:<42} {:>4} tensors {:>9}\n    {}\n", fixture.name, plan.tensors,
                        human_bytes(plan.bytes),
                        reports::wrapped(fixture.doc, 4, "    ", static_cast<std::size_t>(width)));
  }
  return options.json ? json_text(rows, 2) + "\n" : text;
}

/// The name is the operand or --family.
Result<std::string> wanted_name(const Options& options) {
  const bool operand = options.operands.size() == 2;
  if (operand == !options.family.empty()) {
    return fail(Code::BadValue, operand ? "fixture make has two names: an argument and --family"
                                        : "fixture make needs a name")
        .advise("write bridge-verify fixture make --family qwen3_5_vl_moe --out DIR");
  }
  return operand ? options.operands[1] : options.family;
}

/// The command that looks at what was made.
std::string check_line(const Options& options) {
  Options check = options;
  check.command = "check";
  check.operands.clear();
  check.given = {{"model", options.out, Origin::CommandLine, ""}};
  return shell_line(command_words(check, [](const OptionSpec&) { return true; }));
}

Result<std::string> make_fixture(const Options& options, const Library& library) {
  BV_TRY(name, wanted_name(options));
  if (options.out.empty()) {
    return fail(Code::BadValue, "fixture make needs a folder to write").advise("write --out DIR");
  }
  BV_TRY(fixture, fixtures::builtin_fixture(name, options.settings));
  BV_TRY(plan, fixtures::plan_checkpoint(fixture, library.families, library.kinds));
  const std::uint64_t seed = options.seed.value_or(0);
  BV_CHECK(fixtures::make_checkpoint(
      plan, seed, options.out, options.overwrite, [] { return stop_requested() != 0; },
      fixtures::earlier_fixture(library.families, library.kinds)));
  if (options.json) {
    const nlohmann::ordered_json made = {{"name", fixture.name},
                                         {"seed", seed},
                                         {"tensors", plan.tensors},
                                         {"bytes", plan.bytes},
                                         {"out", options.out}};
    return json_text(made, 2) + "\n";
  }
  return fmt::format("{} with seed {}: {}, {} in {} written to {}\nnext     {}\n", fixture.name,
                     seed, counted(plan.tensors, "tensor"), human_bytes(plan.bytes),
                     counted(plan.files.size(), "file"), escaped(options.out), check_line(options));
}

Result<std::string> run(const Options& options, int width) {
  const std::string action = options.operands.empty() ? "list" : options.operands.front();
  const bool list = action == "list" && options.operands.size() <= 1;
  if (!list && (action != "make" || options.operands.size() > 2)) {
    return fail(Code::UnknownOption, fmt::format("fixture has no subcommand \"{}\"",
                                                 escaped(join(options.operands, " "))))
        .advise("bridge-verify fixture list, or bridge-verify fixture make NAME --out DIR");
  }
  BV_TRY(library, load_library(options));
  return list ? list_fixtures(options, library, width) : make_fixture(options, library);
}

}  // namespace

int run_fixture(Context& context, const Options& options) {
  const auto text = run(options, style_for(context, options, context.out_is_terminal).width);
  if (!text) {
    return report_error(context, options, text.error());
  }
  context.streams.out(*text);
  return 0;
}

}  // namespace bv::cli
