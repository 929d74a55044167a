#pragma once
// Archives and pickles of a test's own making.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/pickle/crc32.hpp"

namespace bv::pickle {

inline std::span<const std::byte> as_span(const std::string& text) {
  return std::as_bytes(std::span(text));
}

template <class T>
std::string little(T number) {
  std::string out;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out += static_cast<char>(static_cast<std::uint64_t>(number) >> (8 * i) & 0xFFU);
  }
  return out;
}

/// A text, a number and a tuple of numbers as operations of a pickle.
inline std::string pickled(const std::string& text) {
  return "X" + little(static_cast<std::uint32_t>(text.size())) + text;
}
inline std::string pickled(std::int64_t number) {
  return "J" + little(static_cast<std::int32_t>(number));
}
template <class Numbers>
std::string pickled_tuple(const Numbers& numbers) {
  std::string out = "(";
  for (const std::int64_t number : numbers) {
    out += pickled(number);
  }
  return out + "t";
}

struct SmallRecord {
  std::string name;  // with the folder
  std::string data;
  // What the headers say when it is not the truth.
  std::string local_name = {};
  std::uint16_t method = 0;
  std::uint16_t flags = 0x0800;
  std::int64_t more_size = 0;    // added to the size in the directory
  std::int64_t more_offset = 0;  // added to the place in the directory
  std::int64_t more_crc = 0;
};

struct SmallArchive {
  std::vector<SmallRecord> records;
  std::int64_t more_count = 0;
  std::int64_t more_directory = 0;  // added to where the directory begins
  std::string comment = {};

  [[nodiscard]] std::string bytes() const {
    std::string out;
    std::string directory;
    for (const SmallRecord& one : records) {
      const auto place = static_cast<std::int64_t>(out.size());
      const auto size = static_cast<std::uint32_t>(one.data.size());
      const std::string& local = one.local_name.empty() ? one.name : one.local_name;
      const std::uint32_t crc = crc32(as_span(one.data)) + static_cast<std::uint32_t>(one.more_crc);
      out += little(std::uint32_t{0x04034b50}) + little(std::uint16_t{0}) + little(one.flags) +
             little(one.method) + std::string(4, '\0') + little(crc) + little(size) + little(size) +
             little(static_cast<std::uint16_t>(local.size())) + little(std::uint16_t{0}) + local +
             one.data;
      const auto stated = static_cast<std::uint32_t>(size + one.more_size);
      directory += little(std::uint32_t{0x02014b50}) + std::string(4, '\0') + little(one.flags) +
                   little(one.method) + std::string(4, '\0') + little(crc) + little(stated) +
                   little(stated) + little(static_cast<std::uint16_t>(one.name.size())) +
                   std::string(12, '\0') +
                   little(static_cast<std::uint32_t>(place + one.more_offset)) + one.name;
    }
    const auto count = static_cast<std::uint16_t>(std::ssize(records) + more_count);
    const auto begin = static_cast<std::uint32_t>(std::ssize(out) + more_directory);
    out += directory;
    out += little(std::uint32_t{0x06054b50}) + std::string(4, '\0') + little(count) +
           little(count) + little(static_cast<std::uint32_t>(directory.size())) + little(begin) +
           little(static_cast<std::uint16_t>(comment.size())) + comment;
    return out;
  }
};

}  // namespace bv::pickle
