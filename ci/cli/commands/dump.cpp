// Hidden commands that write the generated pages of docs/.

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "ci/cli/command.hpp"
#include "ci/cli/completion.hpp"

namespace bv::cli {
namespace {

Status write_page(const std::filesystem::path& path, const std::string& text) {
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) {
    return fail(Code::PermissionDenied, fmt::format("cannot write {}", path.string()))
        .advise("give a folder that can be written");
  }
  return Done{};
}

int wants_one_word(Context& context, const Options& options, std::string_view what) {
  return report_error(context, options,
                      fail(Code::BadValue, fmt::format("{} needs one {}, not {}", options.command,
                                                       what, options.operands.size()))
                          .advise(fmt::format("bridge-verify {} {}", options.command, what)));
}

int dump_page(Context& context, const Options& options, const std::string& text) {
  if (options.operands.size() != 1) {
    return wants_one_word(context, options, "FILE");
  }
  if (auto status = write_page(options.operands.front(), text); !status) {
    return report_error(context, options, status.error());
  }
  return 0;
}

}  // namespace

int run_dump_codes(Context& context, const Options& options) {
  if (options.operands.size() != 1) {
    return wants_one_word(context, options, "DIR");
  }
  const std::filesystem::path folder = options.operands.front();
  if (auto status = write_page(folder / "README.md", code_index_page()); !status) {
    return report_error(context, options, status.error());
  }
  for (const CodeInfo& entry : all_codes()) {
    if (auto status = write_page(folder / (label(entry.code) + ".md"), code_page(entry.code));
        !status) {
      return report_error(context, options, status.error());
    }
  }
  return 0;
}

int run_dump_cli(Context& context, const Options& options) {
  return dump_page(context, options, reference_page());
}

int run_dump_man(Context& context, const Options& options) {
  return dump_page(context, options, manual_page());
}

int run_dump_claims(Context& context, const Options& options) {
  return dump_page(context, options, claims_page());
}

}  // namespace bv::cli
