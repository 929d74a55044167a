#pragma once
// Runs the built command as a process of its own.

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/files.hpp"

namespace bv::support {

struct Ended {
  int code = -1;  // exit status, or 128 + signal
  std::string out;
  std::string err;
  double first_output_seconds = -1;  // from the start to the first byte on either stream
  std::uint64_t peak_bytes = 0;      // resident memory at its highest
  [[nodiscard]] std::string last_line() const;
  /// "PASS" of "bridge-verify: PASS  proved ...".
  [[nodiscard]] std::string word() const;
  [[nodiscard]] std::string all() const { return out + err; }
  /// Both streams, for words that a line may be wrapped at.
  [[nodiscard]] std::string flat() const;
};

using Variables = std::map<std::string, std::string>;

/// Runs `bridge-verify ARGUMENTS` to its end. `watch` is called with the process id about once a
/// millisecond while it runs. A process that lives longer than `limit_seconds` is killed and fails
/// the test.
Ended run(const std::vector<std::string>& arguments, const Variables& variables = {},
          const std::function<void(pid_t)>& watch = {}, double limit_seconds = 120);

/// What a run may use; 0 is no limit.
struct Limits {
  std::uint64_t memory_bytes = 0;  // address space
  std::uint64_t open_files = 0;
  bool without_privileges = false;  // modes of files hold for root as well
};

/// The same under limits.
struct Setting {
  Variables variables = {};
  std::function<void(pid_t)> watch = {};
  double limit_seconds = 120;
  Limits limits = {};
  std::filesystem::path folder = {};  // where it starts; empty: here
  std::string program = {};           // in place of the built command
};
Ended run_in(const Setting& setting, const std::vector<std::string>& arguments);

/// Memory for hostile inputs: LibTorch is not needed for them. A sanitizer maps terabytes, so under
/// one there is no limit.
[[nodiscard]] Limits hostile_limits();
/// run_in with hostile_limits: never a crash, never more than 60 s.
Ended run_hostile(const std::vector<std::string>& arguments, const Variables& variables = {});

/// Resident memory of a running process at its highest, in bytes; 0 when it has ended.
/// Ended::peak_bytes is no less than what this process holds when it starts the other one.
[[nodiscard]] std::uint64_t resident_peak(pid_t child);

/// Text without what differs from run to run: folders of tests, the folder of fixtures, seconds.
[[nodiscard]] std::string without_places(std::string text);

/// Messages with each title, fact and field on one line: where lines are wrapped depends on the
/// lengths of paths.
[[nodiscard]] std::string unwrapped(const std::string& text);

}  // namespace bv::support
