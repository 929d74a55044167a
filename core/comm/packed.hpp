#pragma once
// Several texts as one message.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/comm/link.hpp"

namespace bv::comm {

/// Length and bytes of each, one after the other.
[[nodiscard]] Bytes packed(std::span<const std::string> texts);
/// The way back; nothing when the bytes are not such a list.
[[nodiscard]] std::optional<std::vector<std::string>> unpacked(std::span<const std::byte> bytes);

}  // namespace bv::comm
