#include "tests/support/files.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

namespace bv::support {
namespace fs = std::filesystem;

TempFolder::TempFolder() {
  std::string name = (fs::temp_directory_path() / "bv-test-XXXXXX").string();
  const char* made = ::mkdtemp(name.data());
  EXPECT_NE(made, nullptr) << name << ": " << std::strerror(errno);
  path_ = fs::canonical(name);
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path TempFolder::write(const std::string& name, std::string_view bytes) const {
  write_text(path_ / name, bytes);
  return path_ / name;
}

std::string file_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in.is_open()) << "no file " << file;
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

void write_text(const fs::path& file, std::string_view text) {
  fs::create_directories(file.parent_path());
  std::ofstream out(file, std::ios::binary);
  out << text;
  EXPECT_TRUE(out.flush().good()) << file;
}

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) {
      out.push_back(fs::relative(entry.path(), folder).string());
    }
  }
  std::ranges::sort(out);
  return out;
}

nlohmann::json read_json(const fs::path& file) {
  return nlohmann::json::parse(file_text(file));
}

std::string length_word(std::uint64_t length) {
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, sizeof length);
  return out;
}

std::string safetensors(std::string_view header, std::size_t data) {
  std::string out = length_word(header.size()) + std::string(header);
  for (std::size_t i = 0; i < data; ++i) {
    out += static_cast<char>(static_cast<unsigned char>(i));
  }
  return out;
}

namespace {

/// The folder of this tree, or that of BV_TEST_FIXTURES: tests that were copied to another machine.
fs::path fixtures_folder() {
  const char* const elsewhere = std::getenv("BV_TEST_FIXTURES");
  return elsewhere == nullptr ? fs::path(BV_FIXTURES) : fs::path(elsewhere);
}

}  // namespace

fs::path golden(const std::string& part) {
  return fixtures_folder() / "golden" / part;
}

fs::path golden_hf(const std::string& name) {
  return golden("hf") / name;
}

std::vector<std::string> golden_cases() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(golden("hf"))) {
    if (entry.is_directory()) {
      out.push_back(entry.path().filename().string());
    }
  }
  std::ranges::sort(out);
  return out;
}

std::vector<std::string> golden_runs() {
  std::vector<std::string> out = files_below(golden("megatron"));
  std::erase_if(out, [](const std::string& file) { return !file.ends_with(".json"); });
  return out;
}

std::string fixture(const std::string& part) {
  return (fixtures_folder() / part).string();
}

ModelCopy::ModelCopy(const std::string& name, const std::string& as) : folder(temp.path() / as) {
  fs::copy(golden_hf(name), folder, fs::copy_options::recursive);
  fs::remove(folder / "forward.safetensors");
}

}  // namespace bv::support
