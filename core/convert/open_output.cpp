#include "core/convert/open_output.hpp"

#include <algorithm>

namespace bv::convert {
namespace {

/// The smallest window that tensors in step have, so that those are written from where they are.
constexpr std::uint64_t kJoinedBytes = std::uint64_t{64} << 10;

}  // namespace

OpenOutput::OpenOutput(io::PendingFile file, std::uint64_t size, Writers writers, Print print)
    : file_(std::move(file)), size_(size), joins_(writers == Writers::One) {
  if (joins_ && print == Print::Whole) {
    print_.emplace();
  }
}

Result<OpenOutput> OpenOutput::create(const std::filesystem::path& path, std::uint64_t size,
                                      Writers writers, Print print) {
  BV_TRY(file, io::PendingFile::create(path, size));
  return OpenOutput(std::move(file), size, writers, print);
}

Status OpenOutput::flush() {
  if (kept_.empty()) {
    return Done{};
  }
  BV_CHECK(file_.write_at(kept_at_, kept_));
  kept_.clear();
  return Done{};
}

Status OpenOutput::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (!joins_) {
    return file_.write_at(offset, bytes);
  }
  if (print_ && printed_ == offset) {
    print_->add(bytes);
    printed_ += bytes.size();
  } else {
    print_.reset();
  }
  if (offset != kept_at_ + kept_.size()) {
    BV_CHECK(flush());
  }
  while (!bytes.empty()) {
    const std::uint64_t room = kJoinedBytes - offset % kJoinedBytes;
    std::size_t taken = std::min<std::uint64_t>(room, bytes.size());
    if (kept_.empty() && bytes.size() >= room) {  // up to the last end of a piece
      taken = bytes.size() - (offset + bytes.size()) % kJoinedBytes;
      BV_CHECK(file_.write_at(offset, bytes.first(taken)));
    } else {
      kept_at_ = kept_.empty() ? offset : kept_at_;
      kept_.insert(kept_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
      if (taken == room) {
        BV_CHECK(flush());
      }
    }
    offset += taken;
    bytes = bytes.subspan(taken);
  }
  if (kept_.empty()) {
    kept_at_ = offset;
  }
  return Done{};
}

Status OpenOutput::commit() {
  BV_CHECK(flush());
  return file_.commit();
}

std::optional<std::string> OpenOutput::print() const {
  return print_ && printed_ == size_ ? std::optional(print_->hex()) : std::nullopt;
}

}  // namespace bv::convert
