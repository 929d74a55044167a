#include "core/pickle/zip.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/base/text.hpp"

namespace bv::pickle {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50;
constexpr std::uint32_t kLocator64 = 0x07064b50;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::size_t kCommentMax = 0xFFFF;
constexpr std::uint32_t kSaturated32 = 0xFFFFFFFF;
constexpr std::uint16_t kSaturated16 = 0xFFFF;

/// A little-endian number; the caller has seen that it is inside.
template <class T>
T number_at(std::span<const std::byte> bytes, std::uint64_t at) {
  T out = 0;
  for (std::size_t i = sizeof(T); i-- > 0;) {
    out = static_cast<T>(out << 8 | std::to_integer<T>(bytes[at + i]));
  }
  return out;
}

bool is_inside(std::uint64_t begin, std::uint64_t size, std::uint64_t all) {
  return begin <= all && size <= all - begin;
}

std::string_view text_at(std::span<const std::byte> bytes, std::uint64_t at, std::uint64_t size) {
  return {reinterpret_cast<const char*>(bytes.data()) + at, size};
}

/// The 64-bit numbers of a directory entry whose 32-bit fields are saturated.
struct Sizes {
  std::uint64_t whole = 0;
  std::uint64_t packed = 0;
  std::uint64_t header = 0;
};

std::string quoted(std::string_view name) {
  return "\"" + escaped(bounded(name, 160)) + "\"";
}

/// Names that no archive of weights needs.
bool is_unsafe(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find('\\') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return true;
  }
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('/', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (part.empty() || part == "." || part == "..") {
      return true;
    }
    at = end + 1;
  }
  return false;
}

}  // namespace

class ArchiveReader {
 public:
  ArchiveReader(std::span<const std::byte> bytes, const std::string& file)
      : bytes_(bytes), file_(file) {
    out_.bytes_ = bytes;
  }

  Result<Archive> read() {
    BV_CHECK(find_directory());
    if (count_ > Archive::kRecordsMax || count_ > directory_size_ / kCentralBytes) {
      return refuse(
          fmt::format("its directory of {} bytes states {} records", directory_size_, count_));
    }
    std::uint64_t at = directory_;
    for (std::uint64_t i = 0; i < count_; ++i) {
      BV_CHECK(read_entry(at));
    }
    BV_CHECK(check_overlap());
    std::sort(out_.records_.begin(), out_.records_.end(),
              [](const Record& a, const Record& b) { return a.name < b.name; });
    const auto twice =
        std::adjacent_find(out_.records_.begin(), out_.records_.end(),
                           [](const Record& a, const Record& b) { return a.name == b.name; });
    if (twice != out_.records_.end()) {
      return refuse(fmt::format("record {} appears twice", quoted(twice->name)));
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] Error refuse(const std::string& what) const {
    return fail(Code::ZipInvalid,
                fmt::format("{} is not an archive of torch.save: {}", file_, what))
        .at(file_)
        .advise("save the checkpoint again, or fetch the file anew");
  }

  /// The end record stands last, before a comment that may be there.
  [[nodiscard]] std::optional<std::uint64_t> find_end() const {
    for (std::size_t comment = 0; comment <= kCommentMax; ++comment) {
      if (bytes_.size() < kEndBytes + comment) {
        return std::nullopt;
      }
      const std::uint64_t at = bytes_.size() - kEndBytes - comment;
      if (number_at<std::uint32_t>(bytes_, at) == kEnd &&
          number_at<std::uint16_t>(bytes_, at + 20) == comment) {
        return at;
      }
    }
    return std::nullopt;
  }

  Status find_directory() {
    const auto end = find_end();
    if (!end) {
      return refuse("it has no end record");
    }
    std::uint64_t limit = *end;
    const auto disk = number_at<std::uint16_t>(bytes_, *end + 4);
    count_ = number_at<std::uint16_t>(bytes_, *end + 10);
    directory_size_ = number_at<std::uint32_t>(bytes_, *end + 12);
    directory_ = number_at<std::uint32_t>(bytes_, *end + 16);
    const bool is_large =
        count_ == kSaturated16 || directory_size_ == kSaturated32 || directory_ == kSaturated32;
    if (*end >= kLocatorBytes &&
        number_at<std::uint32_t>(bytes_, *end - kLocatorBytes) == kLocator64) {
      const auto at = number_at<std::uint64_t>(bytes_, *end - kLocatorBytes + 8);
      if (!is_inside(at, kEnd64Bytes, *end - kLocatorBytes) ||
          number_at<std::uint32_t>(bytes_, at) != kEnd64) {
        return refuse("its 64-bit end record is not where it should be");
      }
      count_ = number_at<std::uint64_t>(bytes_, at + 32);
      directory_size_ = number_at<std::uint64_t>(bytes_, at + 40);
      directory_ = number_at<std::uint64_t>(bytes_, at + 48);
      limit = at;
    } else if (is_large) {
      return refuse("it has no 64-bit end record");
    }
    if (disk != 0) {
      return refuse("it is one of several disks");
    }
    return is_inside(directory_, directory_size_, limit)
               ? Status(Done{})
               : Status(refuse("its directory reaches out of it"));
  }

  /// The entry at `at`, which moves behind it.
  Status read_entry(std::uint64_t& at) {
    const std::uint64_t end = directory_ + directory_size_;
    if (!is_inside(at, kCentralBytes, end) ||
        number_at<std::uint32_t>(bytes_, at) != kCentralHeader) {
      return refuse(fmt::format("its directory is damaged at byte {}", at));
    }
    const auto name_size = number_at<std::uint16_t>(bytes_, at + 28);
    const auto extra_size = number_at<std::uint16_t>(bytes_, at + 30);
    const auto comment_size = number_at<std::uint16_t>(bytes_, at + 32);
    const std::uint64_t all = kCentralBytes + std::uint64_t{name_size} + extra_size + comment_size;
    if (!is_inside(at, all, end)) {
      return refuse(fmt::format("its directory is cut at byte {}", at));
    }
    const std::string_view name = text_at(bytes_, at + kCentralBytes, name_size);
    Sizes sizes{number_at<std::uint32_t>(bytes_, at + 24),
                number_at<std::uint32_t>(bytes_, at + 20),
                number_at<std::uint32_t>(bytes_, at + 42)};
    if (!widen(sizes, bytes_.subspan(at + kCentralBytes + name_size, extra_size))) {
      return refuse(fmt::format("record {} has no 64-bit sizes", quoted(name)));
    }
    if ((number_at<std::uint16_t>(bytes_, at + 8) & 1U) != 0 ||
        number_at<std::uint16_t>(bytes_, at + 10) != 0 || sizes.whole != sizes.packed) {
      return refuse(fmt::format("record {} is compressed or encrypted", quoted(name)));
    }
    BV_CHECK(add_record(name, sizes, number_at<std::uint32_t>(bytes_, at + 16)));
    at += all;
    return Done{};
  }

  /// Reads the zip64 field of an entry for each size that is saturated.
  static bool widen(Sizes& sizes, std::span<const std::byte> extra) {
    const auto is_saturated = [](std::uint64_t one) { return one == kSaturated32; };
    std::uint64_t* wanted[] = {&sizes.whole, &sizes.packed, &sizes.header};
    if (std::none_of(std::begin(wanted), std::end(wanted),
                     [&](const std::uint64_t* one) { return is_saturated(*one); })) {
      return true;
    }
    for (std::size_t at = 0; at + 4 <= extra.size();) {
      const auto id = number_at<std::uint16_t>(extra, at);
      const std::size_t size = number_at<std::uint16_t>(extra, at + 2);
      if (size > extra.size() - at - 4) {
        return false;
      }
      if (id == 1) {
        std::size_t field = at + 4;
        for (std::uint64_t* one : wanted) {
          if (!is_saturated(*one)) {
            continue;
          }
          if (field + 8 > at + 4 + size) {
            return false;
          }
          *one = number_at<std::uint64_t>(extra, field);
          field += 8;
        }
        return true;
      }
      at += 4 + size;
    }
    return false;
  }

  Status add_record(std::string_view name, const Sizes& sizes, std::uint32_t crc) {
    if (is_unsafe(name)) {
      return refuse(fmt::format("record {} has a name that leads out of it", quoted(name)));
    }
    const std::size_t slash = name.find('/');
    const std::string_view folder = name.substr(0, slash);
    if (out_.records_.empty()) {
      out_.folder_ = folder;
    }
    if (slash == std::string_view::npos || folder != out_.folder_) {
      return refuse(fmt::format("record {} is not below {}", quoted(name), quoted(out_.folder_)));
    }
    if (!is_inside(sizes.header, kLocalBytes, directory_) ||
        number_at<std::uint32_t>(bytes_, sizes.header) != kLocalHeader) {
      return refuse(fmt::format("record {} has no header", quoted(name)));
    }
    const auto name_size = number_at<std::uint16_t>(bytes_, sizes.header + 26);
    const auto extra_size = number_at<std::uint16_t>(bytes_, sizes.header + 28);
    const std::uint64_t begin = sizes.header + kLocalBytes + name_size + extra_size;
    if (!is_inside(begin, sizes.whole, directory_)) {
      return refuse(fmt::format("record {} reaches out of it", quoted(name)))
          .pair(fmt::format("{} bytes from byte {}", sizes.whole, begin),
                fmt::format("inside the first {} bytes", directory_));
    }
    if (text_at(bytes_, sizes.header + kLocalBytes, name_size) != name) {
      return refuse(fmt::format("record {} has another name in its header", quoted(name)));
    }
    if (number_at<std::uint16_t>(bytes_, sizes.header + 8) != 0) {
      return refuse(fmt::format("record {} is compressed in its header", quoted(name)));
    }
    out_.records_.push_back({std::string(name.substr(slash + 1)), begin, sizes.whole, crc});
    held_.emplace_back(sizes.header, begin + sizes.whole);
    return Done{};
  }

  /// No byte belongs to two records, headers included.
  Status check_overlap() {
    std::sort(held_.begin(), held_.end());
    for (std::size_t i = 1; i < held_.size(); ++i) {
      if (held_[i].first < held_[i - 1].second) {
        return refuse(fmt::format("two records overlap at byte {}", held_[i].first));
      }
    }
    return Done{};
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  Archive out_;
  std::uint64_t directory_ = 0;
  std::uint64_t directory_size_ = 0;
  std::uint64_t count_ = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> held_;
};

Result<Archive> Archive::open(std::span<const std::byte> bytes, const std::string& file) {
  return ArchiveReader(bytes, file).read();
}

const Record* Archive::find(std::string_view name) const {
  const auto at = std::lower_bound(
      records_.begin(), records_.end(), name,
      [](const Record& one, std::string_view wanted) { return one.name < wanted; });
  return at == records_.end() || at->name != name ? nullptr : &*at;
}

}  // namespace bv::pickle
