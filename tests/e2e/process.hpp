#pragma once
// Runs the built command as a process of its own.

#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bv::e2e {

struct Ended {
  int code = -1;  // exit status, or 128 + signal
  std::string out;
  std::string err;
  double first_output_seconds = -1;  // from the start to the first byte on either stream
  [[nodiscard]] std::string last_line() const;
  /// "PASS" of "bridge-verify: PASS  proved ...".
  [[nodiscard]] std::string word() const;
  [[nodiscard]] std::string all() const { return out + err; }
};

using Variables = std::map<std::string, std::string>;

/// Runs `bridge-verify ARGUMENTS` to its end. `watch` is called with the process id about once a
/// millisecond while it runs. A process that lives longer than `limit_seconds` is killed and fails
/// the test.
Ended run(const std::vector<std::string>& arguments, const Variables& variables = {},
          const std::function<void(pid_t)>& watch = {}, double limit_seconds = 120);

/// A folder of its own for one test, deleted at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

std::string file_text(const std::filesystem::path& file);
void write_text(const std::filesystem::path& file, std::string_view text);
inline std::filesystem::path golden_hf(const std::string& name) {
  return std::filesystem::path(BV_FIXTURES) / "golden/hf" / name;
}

}  // namespace bv::e2e
