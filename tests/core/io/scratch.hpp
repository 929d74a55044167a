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
#include "tests/support/files.hpp"

namespace bv::io::testing {

using ScratchFolder = support::TempFolder;
using support::file_text;
using support::length_word;
using support::safetensors;

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
