#include "core/comm/packed.hpp"

#include <cstring>

namespace bv::comm {

Bytes packed(std::span<const std::string> texts) {
  Bytes out;
  for (const std::string& text : texts) {
    const std::uint64_t size = text.size();
    const std::size_t at = out.size();
    out.resize(at + sizeof size + text.size());
    std::memcpy(out.data() + at, &size, sizeof size);
    std::memcpy(out.data() + at + sizeof size, text.data(), text.size());
  }
  return out;
}

std::optional<std::vector<std::string>> unpacked(std::span<const std::byte> bytes) {
  std::vector<std::string> out;
  while (!bytes.empty()) {
    std::uint64_t size = 0;
    if (bytes.size() < sizeof size) {
      return std::nullopt;
    }
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes = bytes.subspan(sizeof size);
    if (size > bytes.size()) {
      return std::nullopt;
    }
    out.push_back(text_of(bytes.first(static_cast<std::size_t>(size))));
    bytes = bytes.subspan(static_cast<std::size_t>(size));
  }
  return out;
}

}  // namespace bv::comm
