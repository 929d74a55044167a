// lora check | convert | merge | slice | unpack: a table of verbs, one file each.

#include "ci/cli/commands/lora.hpp"

#include <array>

namespace bv::cli {
namespace {

struct Verb {
  std::string_view name;
  RunCommand run;
};
constexpr std::array kLoraVerbs = {
    Verb{"check", run_lora_check}, Verb{"convert", run_lora_convert}, Verb{"merge", run_lora_merge},
    Verb{"slice", run_lora_slice}, Verb{"unpack", run_lora_unpack},
};

}  // namespace

int run_lora(Context& context, const Options& options) {
  const std::string_view wanted =
      options.operands.empty() ? "" : std::string_view(options.operands.front());
  for (const Verb& verb : kLoraVerbs) {
    if (verb.name == wanted && options.operands.size() == 1) {
      return verb.run(context, options);
    }
  }
  constexpr const char* kExample = "bridge-verify lora check --model DIR --adapter ADAPTER_DIR";
  if (!wanted.empty()) {
    return report_error(
        context, options,
        fail(Code::UnknownOption,
             fmt::format("lora has no subcommand \"{}\"", escaped(join(options.operands, " "))))
            .pair(escaped(join(options.operands, " ")), "check, convert, merge, slice or unpack")
            .advise(kExample));
  }
  return report_error(
      context, options,
      fail(Code::BadValue, "lora needs one verb: check, convert, merge, slice or unpack")
          .advise(kExample));
}

}  // namespace bv::cli
