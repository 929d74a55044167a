#pragma once
// Files of these tests: a folder that goes away, safetensors bytes from header text, small
// checkpoints.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::io::testing {

/// A folder of its own for one test, deleted at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "bv-io-XXXXXX").string();
    path_ = std::filesystem::canonical(::mkdtemp(name.data()));
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file;
  }

 private:
  std::filesystem::path path_;
};

inline std::string slurp(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline std::string length_word(std::uint64_t length) {
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, sizeof length);
  return out;
}

/// Length word, header and `data_bytes` bytes 0, 1, 2, ...
inline std::string safetensors(std::string_view header, std::size_t data_bytes) {
  std::string out = length_word(header.size()) + std::string(header);
  for (std::size_t i = 0; i < data_bytes; ++i) {
    out += static_cast<char>(static_cast<unsigned char>(i));
  }
  return out;
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// "BV7005", or "accepted".
template <class T>
std::string outcome(const Result<T>& result) {
  return result ? "accepted" : label(result.error().code);
}

/// Everything that the user sees of an error, for searching.
inline std::string shown(const Error& error) {
  std::string out = error.message + "\n" + error.where + "\n";
  for (const std::string& fact : error.facts) {
    out += fact + "\n";
  }
  return out + error.found + "\n" + error.wanted + "\n" + error.help;
}

}  // namespace bv::io::testing
