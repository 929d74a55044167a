// lora slice: the factors of each serving rank.

#include "ci/cli/commands/lora.hpp"

namespace bv::cli {

int run_lora_slice(Context& context, const Options& options) {
  return report_error(context, options,
                      fail(Code::BadValue, "lora slice is not part of this build")
                          .advise("use lora check or lora convert"));
}

}  // namespace bv::cli
