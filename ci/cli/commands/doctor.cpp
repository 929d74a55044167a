// What this build and machine can do, and what is missing for more.

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/oracle_module.hpp"
#include "ci/cli/session/session.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "core/cuda/cuda.hpp"
#include "reports/wrap.hpp"

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

/// The first line of a file that begins with `key`, without the key and what follows it up to the
/// value; "" when there is none.
std::string line_of(const fs::path& path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key)) {
      std::string value = line.substr(key.size());
      value.erase(0, value.find_first_not_of(" \t:=\""));
      value.erase(value.find_last_not_of(" \"") + 1);
      return value;
    }
  }
  return "";
}

std::string system_text() {
  utsname names{};
  const std::string kernel =
      ::uname(&names) == 0 ? fmt::format("{} {} {}", names.sysname, names.release, names.machine)
                           : "unknown";
  const std::string release = line_of("/etc/os-release", "PRETTY_NAME");
  return release.empty() ? kernel : fmt::format("{}, {}", release, kernel);
}

/// The vector instructions that our kernels choose by.
std::string processor_text() {
  std::vector<std::string> features;
#if defined(__x86_64__)
  for (const auto& [name, has] : {std::pair("avx2", __builtin_cpu_supports("avx2") != 0),
                                  std::pair("avx512f", __builtin_cpu_supports("avx512f") != 0),
                                  std::pair("avx512bw", __builtin_cpu_supports("avx512bw") != 0)}) {
    if (has) {
      features.emplace_back(name);
    }
  }
#endif
  const std::string model = line_of("/proc/cpuinfo", "model name");
  return fmt::format(
      "{}, {}; {}", model.empty() ? "unknown" : model,
      counted(std::thread::hardware_concurrency(), "core"),
      features.empty() ? "no vector instructions that are used" : join(features, " "));
}

/// The LibTorch that this process has loaded by now; its file name carries the version.
std::string torch_text() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t slash = line.find('/');
    if (slash != std::string::npos && line.find("libtorch_cpu") != std::string::npos) {
      return "LibTorch " + line.substr(slash);
    }
  }
  return "LibTorch linked in";
}

/// Whether the forward oracles can be loaded, tried here: a file that is there may still not load.
std::string forward_text() {
  const ForwardModule module = load_forward();
  if (module.functions == nullptr) {
    return fmt::format("missing, so the claim forward stays undecided: {}", module.reason);
  }
  for (const fs::path& place : forward_module_places()) {
    if (is_there(place)) {
      return fmt::format("loaded {}; {}", place.lexically_normal().string(), torch_text());
    }
  }
  return "loaded";
}

std::string cache_text(const Context& context) {
  const fs::path root = locate_roots(context).cache;
  std::error_code failed;
  std::uint64_t models = 0;
  for (fs::directory_iterator at(root, failed), end; !failed && at != end; at.increment(failed)) {
    models += at->path().filename().string().starts_with("models--") ? 1U : 0U;
  }
  return is_there(root) ? fmt::format("{}: {}", root.string(), counted(models, "model"))
                        : fmt::format("{} is not there", root.string());
}

}  // namespace

int run_doctor(Context& context, const Options& options) {
  const Tool tool = this_tool();
  const reports::TextStyle style = style_for(context, options, context.out_is_terminal);
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"version", fmt::format("{} commit {} build {} ({})", tool.version, tool.commit, tool.build,
                              tool.compiler)},
      {"system", system_text()},
      {"processor", processor_text()},
      {"memory", memory_text()},
      {"forward", forward_text()},
      {"gpu", cuda::text_of(cuda::look_around())},
      {"hf cache", cache_text(context)},
      {"text", style.ascii ? "ASCII (locale is not UTF-8, or --ascii)" : "UTF-8"},
      {"colour", style.color ? "on" : "off"},
  };
  if (options.json) {
    nlohmann::ordered_json out = {{"schema", "bridge-doctor/1"}};
    for (const auto& [key, value] : rows) {
      out[key == "hf cache" ? "hf_cache" : key] = value;
    }
    context.streams.out(json_text(out, 2) + "\n");
    return 0;
  }
  for (const auto& [key, value] : rows) {
    context.streams.out(
        fmt::format("{:<10}", key) +
        reports::wrapped(escaped(value), 10, "          ", static_cast<std::size_t>(style.width)) +
        "\n");
  }
  return 0;
}

}  // namespace bv::cli
