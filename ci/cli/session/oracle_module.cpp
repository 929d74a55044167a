#include <dlfcn.h>

#include <filesystem>

#include "ci/cli/session/session.hpp"

namespace bv::cli {
namespace {

/// Where the module may stand: beside the command, or in the library folder of an install.
std::vector<std::filesystem::path> places() {
  std::error_code ignored;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const auto folder = self.parent_path();
  return {folder / "bv_oracles.so", folder / ".." / "lib" / "bridge-verify" / "bv_oracles.so"};
}

}  // namespace

OracleModule load_oracles(const Context&) {
  OracleModule out;
  for (const auto& path : places()) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) {
      out.reason += (out.reason.empty() ? "no " : ", no ") + path.lexically_normal().string();
      continue;
    }
    void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      out.reason = ::dlerror();
      continue;
    }
    using EntryFunction = const void* (*)();
    const auto entry = reinterpret_cast<EntryFunction>(::dlsym(handle, "bv_oracle_entry"));
    const auto* table = entry == nullptr ? nullptr : static_cast<const oracle::Entry*>(entry());
    if (table == nullptr || table->abi_version != oracle::kAbiVersion) {
      out.reason = path.string() + " belongs to another build";
      continue;
    }
    out.entry = table;
    return out;
  }
  return out;
}

}  // namespace bv::cli
