#include "core/io/megatron_iteration.hpp"

#include <fmt/format.h>

#include <charconv>

#include "core/io/writer.hpp"

namespace bv::io {

std::optional<std::string> latest_iteration(const std::filesystem::path& folder) {
  constexpr std::uint64_t kBytesMax = 64;
  const auto text =
      read_file(folder / "latest_checkpointed_iteration.txt", kBytesMax, Code::ReadFailed);
  if (!text) {
    return std::nullopt;
  }
  std::string_view number = *text;
  number = number.substr(0, number.find_last_not_of(" \r\n\t") + 1);
  if (number == "release") {
    return "release";
  }
  std::int64_t iteration = -1;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), iteration);
  return error == std::errc() && end == number.data() + number.size() && iteration >= 0
             ? std::optional(fmt::format("iter_{:07}", iteration))
             : std::nullopt;
}

}  // namespace bv::io
