#pragma once
// Compares text with fixtures/text/NAME.txt; BV_UPDATE_TEXT=1 in the environment writes it instead.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace bv::testing {

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return file ? out.str() : "(no file " + path.filename().string() + ")";
}

inline void expect_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(BV_FIXTURES) / "text" / (name + ".txt");
  if (std::getenv("BV_UPDATE_TEXT") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  EXPECT_EQ(text, file_text(path)) << "run with BV_UPDATE_TEXT=1 when the change is meant";
}

}  // namespace bv::testing
