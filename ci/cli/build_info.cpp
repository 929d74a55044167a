#include "ci/cli/build_info.hpp"

#include "bv_commit.inc"

namespace bv::cli {

std::string build_version() {
  return BV_VERSION;
}
std::string build_commit() {
  return BV_COMMIT;
}
std::string build_kind() {
  return BV_BUILD_KIND;  // what core/cuda was compiled with
}
std::string build_compiler() {
  return "g++ " __VERSION__;
}

}  // namespace bv::cli
