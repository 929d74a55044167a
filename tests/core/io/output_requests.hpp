#pragma once
// Outputs of earlier runs, and what a place says to a request.

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/io/carry_file.hpp"
#include "core/io/output_folder.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io::testing {

namespace fs = std::filesystem;

/// Every file below a folder with its text.
inline std::map<std::string, std::string> tree(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_symlink() || !entry.is_directory()) {
      std::string& text = out[entry.path().lexically_relative(folder).string()];
      text = entry.is_symlink()        ? "-> " + fs::read_symlink(entry.path()).string()
             : entry.is_regular_file() ? support::file_text(entry.path())
                                       : "special";
    }
  }
  return out;
}

/// An earlier output holds "a" with the text "1".
inline FirstStranger earlier_output() {
  const FilePrint print = print_of_text("1");
  return all_but({{"a", {print.bytes, "", print.digest}}});
}

inline OutputRequest request(const fs::path& out, bool overwrite = false, bool resume = false) {
  OutputRequest made{out, overwrite, resume};
  made.files = {"a", "b", "new", "sub/b"};
  made.first_stranger = earlier_output();
  return made;
}

/// What the marker of a run says that wrote these.
inline std::string marker(const std::vector<std::string>& files) {
  std::string out;
  for (const std::string& file : files) {
    out += file + std::string(1, '\0');
  }
  return out;
}

/// "accepted", or the code of the refusal; a refusal leaves the folder as it was.
inline std::string placed(const ScratchFolder& folder, const OutputRequest& wanted) {
  const auto before = tree(folder.path());
  const Status checked = check_output_place(wanted);
  const std::string before_first_byte = outcome(checked);
  if (checked) {
    return before_first_byte;
  }
  EXPECT_FALSE(checked.error().help.empty());
  EXPECT_EQ(outcome(OutputFolder::create(wanted)), before_first_byte);
  EXPECT_EQ(tree(folder.path()), before);
  return before_first_byte;
}

}  // namespace bv::io::testing
