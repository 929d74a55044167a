#include "core/io/tar.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/text.hpp"

namespace bv::io {
namespace {

constexpr std::size_t kTarBlock = 512;
constexpr std::size_t kTarNameMax = 100;
constexpr std::size_t kChecksumAt = 148;
constexpr std::size_t kSizeAt = 124;

/// The header's bytes added up, its own field counted as blanks.
std::uint32_t checksum(std::string_view header) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < kTarBlock; ++i) {
    const bool own = i >= kChecksumAt && i < kChecksumAt + 8;
    sum += own ? 32U : static_cast<unsigned char>(header[i]);
  }
  return sum;
}

std::string tar_header(const std::string& name, std::size_t size) {
  std::string out(kTarBlock, '\0');
  const auto put = [&out](std::size_t at, std::string_view text) {
    std::copy(text.begin(), text.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
  };
  put(0, name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(kSizeAt, fmt::format("{:011o}", size));
  put(136, "00000000000");
  put(156, "0");
  put(257, std::string_view("ustar\00000", 8));
  put(kChecksumAt, fmt::format("{:06o}", checksum(out)) + std::string("\0 ", 2));
  return out;
}

std::string field(std::string_view header, std::size_t at, std::size_t length) {
  const std::string_view text = header.substr(at, length);
  return std::string(text.substr(0, std::min(text.find('\0'), text.size())));
}

bool octal(const std::string& text, std::uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 8);
  return error == std::errc{} && end == text.data() + text.size();
}

bool plain_name(const std::string& name) {
  return !name.empty() && !name.starts_with('.') &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

}  // namespace

std::string tar(const std::map<std::string, std::string>& files) {
  std::string out;
  for (const auto& [name, contents] : files) {
    BV_ASSERT(plain_name(name) && name.size() <= kTarNameMax);
    out += tar_header(name, contents.size()) + contents;
    out.resize((out.size() + kTarBlock - 1) / kTarBlock * kTarBlock, '\0');
  }
  return out + std::string(2 * kTarBlock, '\0');
}

Result<std::map<std::string, std::string>> untar(std::string_view bytes, const std::string& file) {
  const auto refuse = [&file](const std::string& why) {
    return fail(Code::ContentsChanged, fmt::format("{} is damaged: {}", escaped(file), why))
        .advise("get the file again from whoever made it");
  };
  std::map<std::string, std::string> out;
  while (true) {
    if (bytes.size() < kTarBlock) {
      return refuse("its end is missing");
    }
    const std::string_view header = bytes.substr(0, kTarBlock);
    if (header.find_first_not_of('\0') == std::string_view::npos) {
      break;
    }
    const std::string name = field(header, 0, kTarNameMax);
    std::uint64_t size = 0;
    // Ours alone: every byte of the header is what `tar` writes for the name and the size.
    if (!octal(field(header, kSizeAt, 12), size) || header != tar_header(name, size)) {
      return refuse("an entry has a wrong header");
    }
    const std::uint64_t blocks = (size + kTarBlock - 1) / kTarBlock;
    if (!plain_name(name) || blocks > bytes.size() / kTarBlock - 1) {
      return refuse("an entry has a wrong name or size");
    }
    if (!out.emplace(name, bytes.substr(kTarBlock, size)).second) {
      return refuse(name + " appears twice");
    }
    bytes.remove_prefix((1 + blocks) * kTarBlock);
  }
  if (bytes.size() != 2 * kTarBlock || bytes.find_first_not_of('\0') != std::string_view::npos) {
    return refuse("there are bytes behind its end");
  }
  return out;
}

}  // namespace bv::io
