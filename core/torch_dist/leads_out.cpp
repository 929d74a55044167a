#include "core/torch_dist/leads_out.hpp"

#include <algorithm>
#include <filesystem>

namespace bv::torch_dist {

bool leads_out(const std::string& name) {
  const std::filesystem::path path(name);
  return name.empty() || path.is_absolute() || name.find('\0') != std::string::npos ||
         std::any_of(path.begin(), path.end(),
                     [](const std::filesystem::path& part) { return part == ".."; });
}

}  // namespace bv::torch_dist
