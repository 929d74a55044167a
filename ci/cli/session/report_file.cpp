#include "ci/cli/session/report_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "core/base/text.hpp"
#include "core/io/output_place.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

/// Files and folders that the line names, beside those of the output.
std::vector<fs::path> named_inputs(const Options& options) {
  std::vector<fs::path> out(options.operands.begin(), options.operands.end());
  for (const Setting& given : options.given) {
    const OptionSpec* spec = find_option(given.name);
    if (spec != nullptr && spec->group != "output" && takes_value(spec->form)) {
      out.emplace_back(given.text);
    }
  }
  return out;
}

}  // namespace

bool is_report(const fs::path& file) {
  constexpr std::streamoff kLooked = 4096;
  std::ifstream in(file, std::ios::binary);
  std::array<char, kLooked> text{};
  for (const bool tail : {false, true}) {
    in.clear();
    in.seekg(0, std::ios::end);
    const std::streamoff size = in.tellg();
    in.seekg(tail ? std::max<std::streamoff>(0, size - kLooked) : 0);
    in.read(text.data(), kLooked);
    const std::string_view found(text.data(), static_cast<std::size_t>(in.gcount()));
    if (size == 0 || found.find("bridge-verify") != std::string_view::npos) {
      return true;
    }
  }
  return false;
}

Status check_report_file(const Options& options, const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) {
    return Done{};
  }
  for (const fs::path& input : named_inputs(options)) {
    const bool same = fs::equivalent(file, input, ignored);
    const bool beside =
        !same && fs::is_directory(input, ignored) && io::is_inside(file, input) && !is_report(file);
    if (same || beside) {
      return fail(Code::OutputExists,
                  fmt::format("{} is {}, and would be written over", escaped(file.string()),
                              same ? "read" : "a file of " + escaped(input.string())))
          .advise("give the report another name; nothing was written");
    }
  }
  return Done{};
}

}  // namespace bv::cli
