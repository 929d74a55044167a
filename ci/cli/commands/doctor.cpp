// What this build and machine can do, and what is missing for more.

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <thread>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/oracle_module.hpp"
#include "core/base/text.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string memory_text() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0
             ? human_bytes(static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page))
             : "unknown";
}

std::string forward_text() {
  for (const fs::path& place : forward_module_places()) {
    if (is_there(place)) {
      return "found " + place.lexically_normal().string();
    }
  }
  return "not found: the claim forward stays undecided (it is built with libtorch-dev)";
}

std::string cache_text(const Environment& environment) {
  fs::path root = variable(environment, "HF_HUB_CACHE");
  if (root.empty() && !variable(environment, "HF_HOME").empty()) {
    root = fs::path(variable(environment, "HF_HOME")) / "hub";
  }
  if (root.empty()) {
    const fs::path home = variable(environment, "HOME");
    const fs::path cache = variable(environment, "XDG_CACHE_HOME").empty()
                               ? home / ".cache"
                               : fs::path(variable(environment, "XDG_CACHE_HOME"));
    root = cache / "huggingface" / "hub";
  }
  std::error_code failed;
  std::int64_t models = 0;
  for (fs::directory_iterator at(root, failed), end; !failed && at != end; at.increment(failed)) {
    models += at->path().filename().string().starts_with("models--") ? 1 : 0;
  }
  return is_there(root) ? fmt::format("{}: {} models", root.string(), models)
                        : fmt::format("{} is not there", root.string());
}

}  // namespace

int run_doctor(Context& context, const Options& options) {
  const Tool tool = this_tool();
  const reports::TextStyle style = style_for(context, options, context.out_is_terminal);
  const auto line = [&context](std::string_view key, std::string_view value) {
    context.streams.out(fmt::format("{:<10}{}\n", key, escaped(value)));
  };
  line("version", fmt::format("{} commit {} build {} ({})", tool.version, tool.commit, tool.build,
                              tool.compiler));
  line("cores", std::to_string(std::thread::hardware_concurrency()));
  line("memory", memory_text());
  line("forward", forward_text());
  line("gpu",
       is_there("/dev/nvidia0") ? "device present" : "no NVIDIA device: claim gpu cannot run here");
  line("hf cache", cache_text(context.environment));
  line("text", style.ascii ? "ASCII (locale is not UTF-8, or --ascii)" : "UTF-8");
  line("colour", style.color ? "on" : "off");
  return 0;
}

}  // namespace bv::cli
