#include <fmt/format.h>

#include "ci/cli/command.hpp"
#include "core/base/text.hpp"

namespace bv::cli {

int run_explain(Context& context, const Options& options) {
  if (options.operands.size() != 1) {
    return report_error(
        context, options,
        fail(Code::BadValue,
             fmt::format("explain wants one code, {} words are given", options.operands.size()))
            .advise("bridge-verify explain BV2006"));
  }
  const auto code = code_from_text(options.operands.front());
  if (!code) {
    std::vector<std::string> names;
    for (const CodeInfo& entry : all_codes()) {
      names.push_back(label(entry.code));
      if (entry.name == options.operands.front()) {
        context.streams.out(code_page(entry.code));
        return 0;
      }
      names.emplace_back(entry.name);
    }
    const auto near = nearest(options.operands.front(), names);
    return report_error(context, options,
                        fail(Code::BadValue, fmt::format("there is no code \"{}\"",
                                                         escaped(options.operands.front())))
                            .advise(near ? fmt::format("bridge-verify explain {}", *near)
                                         : "docs/codes lists every code"));
  }
  context.streams.out(code_page(*code));
  return 0;
}

}  // namespace bv::cli
