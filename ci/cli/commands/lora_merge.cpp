// lora merge: adds an adapter to its base.

#include "ci/cli/commands/lora.hpp"

namespace bv::cli {

int run_lora_merge(Context& context, const Options& options) {
  return report_error(context, options,
                      fail(Code::BadValue, "lora merge is not part of this build")
                          .advise("use lora check or lora convert"));
}

}  // namespace bv::cli
