#pragma once
// Runs one command line in memory.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "ci/cli/command.hpp"

namespace bv::cli::testing {

struct Ended {
  int code = -1;
  std::string out;
  std::string err;
};

inline Ended run_line(std::vector<std::string> arguments,
                      const Environment& environment = {{"LANG", "C.UTF-8"}}) {
  Ended ended;
  Streams streams(
      [&ended](std::string_view text) {
        ended.out += text;
        return true;
      },
      [&ended](std::string_view text) { ended.err += text; });
  Context context{.streams = streams,
                  .environment = environment,
                  .seconds = [] { return 0.25; },
                  .started = [] { return std::string("2026-01-01T00:00:00Z"); },
                  .argv0 = "bridge-verify",
                  .arguments = std::move(arguments)};
  ended.code = run_command_line(context);
  EXPECT_TRUE(streams.flush());
  return ended;
}

inline const std::filesystem::path kGolden = std::filesystem::path(BV_FIXTURES) / "golden";

inline std::string hf_case(const std::string& name) {
  return (kGolden / "hf" / name).string();
}

/// A folder of its own for one test, deleted at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "bv-ci-XXXXXX").string();
    path_ = std::filesystem::canonical(::mkdtemp(name.data()));
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline void write_text(const std::filesystem::path& file, std::string_view text) {
  std::ofstream(file, std::ios::binary) << text;
}

}  // namespace bv::cli::testing
