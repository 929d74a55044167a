#include "tests/support/golden_text.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/files.hpp"

namespace bv::support {

void expect_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(BV_FIXTURES) / "text" / (name + ".txt");
  if (std::getenv("BV_UPDATE_TEXT") != nullptr) {
    write_text(path, text);
  }
  EXPECT_EQ(text, file_text(path)) << "run with BV_UPDATE_TEXT=1 when the change is meant";
}

}  // namespace bv::support
