#include "core/io/fault_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/base/text.hpp"
#include "core/io/json_cursor.hpp"
#include "core/io/utf8.hpp"

namespace bv::io {
namespace {

constexpr std::size_t kNameShownMax = 160;

}  // namespace

std::string printable(std::string_view untrusted) {
  return escaped(untrusted);
}

std::string printable_path(const std::filesystem::path& path) {
  return printable(std::string_view(path.native()));
}

std::string in_quotes(std::string_view untrusted) {
  if (untrusted.size() <= kNameShownMax) {
    return "\"" + printable(untrusted) + "\"";
  }
  const auto starts_character = [&](std::size_t at) {
    return (static_cast<unsigned char>(untrusted[at]) & 0xc0u) != 0x80u;
  };
  std::size_t head = kNameShownMax / 2;
  std::size_t tail = untrusted.size() - kNameShownMax / 2;
  while (head > kNameShownMax / 2 - 4 && !starts_character(head)) {
    --head;
  }
  while (tail + 1 < untrusted.size() && tail < untrusted.size() - kNameShownMax / 2 + 4 &&
         !starts_character(tail)) {
    ++tail;
  }
  return fmt::format("\"{}...{}\" ({} bytes)", printable(untrusted.substr(0, head)),
                     printable(untrusted.substr(tail)), untrusted.size());
}

std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::vector<std::string> first_lines(const std::vector<std::string>& lines, std::size_t most) {
  if (lines.size() <= most) {
    return lines;
  }
  std::vector<std::string> shown(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(most));
  shown.push_back(fmt::format("and {} more", grouped(lines.size() - most)));
  return shown;
}

Error system_fault(int error_number, std::string_view doing, const std::filesystem::path& path,
                   Code otherwise) {
  const std::string reason = std::generic_category().message(error_number);
  const std::string message = fmt::format("{} {} failed: {}", doing, printable_path(path), reason);
  switch (error_number) {
    case EACCES:
    case EPERM:
    case EROFS:
      return fail(Code::PermissionDenied, message)
          .advise("give this user access to the path, or choose another one");
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return fail(Code::DiskFull, message).advise("free space or raise the limit, then repeat");
    case ENOMEM:
      return fail(Code::OutOfMemory, message)
          .advise("raise the memory limit (ulimit -v) or close other programs");
    case ENOENT:
    case ENOTDIR:
      return fail(otherwise, message).advise("check the path");
    case EMFILE:
    case ENFILE:
      return fail(otherwise, message).advise("raise the limit of open files (ulimit -n)");
    default:
      return fail(otherwise, message).advise("check the file and the disk under it, then repeat");
  }
}

}  // namespace bv::io
