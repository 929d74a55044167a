#include "ci/cli/session/oracle_module.hpp"

#include <dlfcn.h>

namespace bv::cli {

std::vector<std::filesystem::path> forward_module_places() {
  std::error_code ignored;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const auto folder = self.parent_path();
  return {folder / "bv_forward.so", folder / ".." / "lib" / "bridge-verify" / "bv_forward.so"};
}

ForwardModule load_forward() {
  ForwardModule out;
  for (const auto& path : forward_module_places()) {
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
    const auto entry = reinterpret_cast<EntryFunction>(::dlsym(handle, "bv_forward_entry"));
    const auto* module =
        entry == nullptr ? nullptr : static_cast<const oracle::forward::Module*>(entry());
    if (module == nullptr || module->abi != oracle::forward::kAbi) {
      out.reason = path.string() + " belongs to another build";
      continue;
    }
    out.functions = &module->functions;
    return out;
  }
  return out;
}

}  // namespace bv::cli
