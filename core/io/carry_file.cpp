#include "core/io/carry_file.hpp"

#include <fcntl.h>

#include <algorithm>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "core/io/digest.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{256} << 10;  // stays in the second-level cache

using Piece = std::function<Status(std::uint64_t, std::span<const std::byte>)>;

/// Hands the whole file on in pieces, in order.
Result<FilePrint> read_pieces(const OpenedFile& file, const fs::path& path, const Piece& use) {
  Digest digest;
  std::vector<std::byte> buffer(std::min(kPieceBytes, file.stamp.size));
  for (std::uint64_t at = 0; at < file.stamp.size; at += buffer.size()) {
    const std::span<std::byte> piece(buffer.data(),
                                     std::min<std::uint64_t>(buffer.size(), file.stamp.size - at));
    BV_CHECK(read_exactly(file.descriptor, at, piece, path));
    digest.add(piece);
    BV_CHECK(use(at, piece));
  }
  BV_CHECK(check_unchanged(path, file.stamp));
  return FilePrint{file.stamp.size, digest.hex()};
}

}  // namespace

Result<FilePrint> print_of_file(const fs::path& path) {
  BV_TRY(file, open_regular(path));
  return read_pieces(file, path,
                     [](std::uint64_t, std::span<const std::byte>) -> Status { return Done{}; });
}

Result<FilePrints> prints_of_file(const fs::path& path, std::span<const FileRange> ranges) {
  constexpr std::uint64_t kReleaseBytes = std::uint64_t{8} << 20;
  BV_TRY(file, open_regular(path));
  BV_TRY(map, Mapping::map(file, path));
  const std::span<const std::byte> bytes = map.bytes();
  FilePrints out;
  Digest whole;
  Digest own;  // of ranges[out.ranges.size()], as far as it was read
  const auto finish_ranges = [&](std::uint64_t at) {
    while (out.ranges.size() < ranges.size() && ranges[out.ranges.size()].end <= at) {
      out.ranges.push_back(std::exchange(own, Digest()).hex());
    }
  };
  for (std::uint64_t at = 0; at < bytes.size();) {
    // A piece is in one range or in none, so that both fingerprints find it in the cache.
    finish_ranges(at);
    const std::size_t number = out.ranges.size();
    const FileRange next = number < ranges.size() ? ranges[number] : FileRange{~0ULL, ~0ULL};
    const bool inside = at >= next.begin;
    const std::uint64_t end =
        std::min<std::uint64_t>({at + kPieceBytes, bytes.size(), inside ? next.end : next.begin});
    const auto piece = bytes.subspan(at, end - at);
    whole.add(piece);
    if (inside) {
      own.add(piece);
    }
    if (at / kReleaseBytes != end / kReleaseBytes) {
      const std::uint64_t read = at / kReleaseBytes * kReleaseBytes;
      release_pages(bytes, bytes.subspan(read, end - read));
    }
    at = end;
  }
  finish_ranges(bytes.size());
  BV_CHECK(check_unchanged(path, file.stamp));
  out.whole = {file.stamp.size, whole.hex()};
  return out;
}

FilePrint print_of_text(std::string_view text) {
  Digest digest;
  digest.add(text);
  return {text.size(), digest.hex()};
}

Result<FilePrint> carry_file(const fs::path& from, const fs::path& to) {
  BV_TRY(file, open_regular(from));
  BV_TRY(pending, PendingFile::create(to, file.stamp.size, IfExists::Replace));
  BV_TRY(print,
         read_pieces(file, from, [&pending](std::uint64_t at, std::span<const std::byte> piece) {
           return pending.write_at(at, piece);
         }));
  BV_CHECK(pending.commit());
  return std::move(print);
}

Status drop_cached(const fs::path& path) {
  BV_TRY(file, open_regular(path));
  if (const int error = ::posix_fadvise(file.descriptor.number(), 0, 0, POSIX_FADV_DONTNEED);
      error != 0) {
    return system_fault(error, "dropping the cached pages of", path, Code::ReadFailed)
        .at(printable_path(path));
  }
  return Done{};
}

}  // namespace bv::io
