#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/wrap.hpp"

namespace bv::cli {
namespace {

constexpr std::array kSchemas = {"bridge-verdicts/1", "bridge-headers/1", "bridge-rules/1",
                                 "bridge-inspect/1",  "bridge-layout/1",  "bridge-trace/1",
                                 "bridge-settings/1", "bridge-doctor/1",  "bridge-error/1"};

}  // namespace

int run_version(Context& context, const Options& options) {
  constexpr std::size_t kValuesAt = 10;  // column
  const Tool tool = this_tool();
  const std::vector<std::string> schemas(kSchemas.begin(), kSchemas.end());
  if (options.json) {
    const nlohmann::ordered_json out = {{"name", tool.name},         {"version", tool.version},
                                        {"commit", tool.commit},     {"build", tool.build},
                                        {"compiler", tool.compiler}, {"schemas", schemas}};
    context.streams.out(json_text(out, 2) + "\n");
    return 0;
  }
  context.streams.out(fmt::format(
      "bridge-verify {}\ncommit    {}\nbuild     {}\ncompiler  {}\nschemas   {}\n", tool.version,
      tool.commit, tool.build, tool.compiler,
      reports::wrapped(
          join(schemas, " "), kValuesAt, std::string(kValuesAt, ' '),
          static_cast<std::size_t>(style_for(context, options, context.out_is_terminal).width))));
  return 0;
}

}  // namespace bv::cli
