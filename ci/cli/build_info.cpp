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
#ifdef BV_WITH_CUDA  // what core/cuda was compiled with
  return "cuda";
#else
  return "cpu";
#endif
}
std::string build_compiler() {
  return "g++ " __VERSION__;
}

}  // namespace bv::cli
