#include "ci/cli/session/settings.hpp"

#include <fmt/format.h>

#include "ci/cli/session/context.hpp"
#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/writer.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 20;
constexpr std::string_view kName = "bridge-verify.toml";

/// The file that counts for this folder, empty without one.
fs::path nearest_file(const fs::path& folder) {
  fs::path found;
  for (fs::path at = folder; !at.empty(); at = at.parent_path()) {
    if (found.empty() && io::has_entry(at / kName)) {
      found = at / kName;
    }
    if (io::has_entry(at / ".git")) {
      return found;
    }
    if (at == at.root_path()) {
      break;
    }
  }
  return found.parent_path() == folder ? found : fs::path();
}

fs::path user_file(const Environment& environment) {
  const std::string_view config = variable(environment, "XDG_CONFIG_HOME");
  const std::string_view home = variable(environment, "HOME");
  if (config.empty() && home.empty()) {
    return {};
  }
  return (config.empty() ? fs::path(home) / ".config" : fs::path(config)) / "bridge-verify" /
         "config.toml";
}

}  // namespace

Result<std::vector<SettingsText>> read_settings(const Environment& environment,
                                                const fs::path& folder) {
  std::vector<SettingsText> out;
  if (folder.empty()) {
    return out;
  }
  for (const fs::path& path : {nearest_file(folder), user_file(environment)}) {
    if (path.empty() || !io::has_entry(path)) {
      continue;
    }
    const bool here = path.parent_path() == folder;
    const std::string shown = here ? std::string(kName) : path.string();
    auto text = io::read_file(path, kBytesMax, Code::BadSettings);
    if (!text) {
      Error error = std::move(text).error();
      error.code = Code::BadSettings;
      return std::move(error).at(shown);
    }
    out.push_back({shown, std::move(*text)});
  }
  return out;
}

}  // namespace bv::cli
