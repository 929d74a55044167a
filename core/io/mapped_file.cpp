#include "core/io/mapped_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::io {
namespace {

/// What a fault maps at most, at a multiple of it: 64 KiB, and since Linux 6.18 all of a large
/// folio.
constexpr std::size_t kAround = std::size_t{2} << 20;

FileStamp stamp_of(const struct stat& status) {
  return {
      status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
      static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec};
}

Error changed(const std::filesystem::path& path, const FileStamp& before, std::uint64_t size_now) {
  return fail(Code::IndexDisagrees,
              fmt::format("{} changed while it was read", printable_path(path)))
      .at(printable_path(path))
      .pair(fmt::format("{} bytes now", grouped(size_now)),
            fmt::format("the file of {} bytes that was opened, unwritten since",
                        grouped(before.size)))
      .advise("stop the program that writes the checkpoint, then repeat");
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  Descriptor old(std::exchange(number_, other.release()));
  return *this;
}

Descriptor::~Descriptor() {
  if (number_ >= 0) {
    ::close(number_);
  }
}

Result<OpenedFile> open_regular(const std::filesystem::path& path) {
  const int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (number < 0) {
    return system_fault(errno, "opening", path, Code::ReadFailed).at(printable_path(path));
  }
  OpenedFile file{Descriptor(number), {}};
  struct stat status {};
  if (::fstat(number, &status) != 0) {
    return system_fault(errno, "looking at", path, Code::ReadFailed).at(printable_path(path));
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(Code::ReadFailed, fmt::format("{} is not a regular file", printable_path(path)))
        .at(printable_path(path))
        .pair(S_ISDIR(status.st_mode) ? "a folder" : "a pipe, socket or device", "a regular file")
        .advise("give the file itself");
  }
  // The kernel writes such a file while it is read: what stands there is of this process or this
  // machine, as in /proc/self/environ.
  char first = 0;
  if (status.st_size == 0 && ::pread(number, &first, 1, 0) > 0) {
    return fail(Code::ReadFailed, fmt::format("{} is not a regular file", printable_path(path)))
        .at(printable_path(path))
        .pair("a file without a size, as in /proc", "a regular file")
        .advise("give the file itself");
  }
  file.stamp = stamp_of(status);
  return file;
}

Status read_exactly(const Descriptor& descriptor, std::uint64_t offset, std::span<std::byte> out,
                    const std::filesystem::path& path) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t count = ::pread(descriptor.number(), out.data() + done, out.size() - done,
                                  static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return system_fault(errno, "reading", path, Code::ReadFailed).at(printable_path(path));
    }
    if (count == 0) {
      return fail(Code::ReadFailed, fmt::format("{} ends before the bytes that its header promises",
                                                printable_path(path)))
          .at(printable_path(path))
          .pair(fmt::format("{} bytes from byte {}", grouped(done), grouped(offset)),
                counted(out.size(), "byte"))
          .advise("the file was cut while it was read: fetch it again");
    }
    done += static_cast<std::size_t>(count);
  }
  return Done{};
}

Status check_unchanged(const std::filesystem::path& path, const FileStamp& before) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    return system_fault(errno, "looking again at", path, Code::IndexDisagrees)
        .at(printable_path(path));
  }
  const FileStamp now = stamp_of(status);
  if (now != before) {
    return changed(path, before, now.size);
  }
  return Done{};
}

Result<Mapping> Mapping::map(const OpenedFile& file, const std::filesystem::path& path) {
  Mapping out;
  if (file.stamp.size == 0) {
    return out;
  }
  void* const first = ::mmap(nullptr, file.stamp.size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE,
                             file.descriptor.number(), 0);
  if (first == MAP_FAILED) {
    return system_fault(errno, "mapping", path, Code::ReadFailed).at(printable_path(path));
  }
  out.first_ = static_cast<std::byte*>(first);
  out.size_ = file.stamp.size;
  return out;
}

Mapping::Mapping(Mapping&& other) noexcept
    : first_(std::exchange(other.first_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      waiting_(other.waiting_.exchange(kNone)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(first_, other.first_);
  std::swap(size_, other.size_);
  waiting_ = other.waiting_.exchange(waiting_);
  return *this;
}

Mapping::~Mapping() {
  if (first_ != nullptr) {
    ::munmap(first_, size_);
  }
}

std::shared_ptr<const Descriptor> DescriptorCache::find(std::size_t file) {
  const std::lock_guard lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.file == file) {
      slot.used = ++clock_;
      return slot.descriptor;
    }
  }
  return nullptr;
}

Result<std::shared_ptr<const Descriptor>> DescriptorCache::get(std::size_t file,
                                                               const std::filesystem::path& path,
                                                               const FileStamp& stamp) {
  if (auto there = find(file)) {
    return there;
  }
  // Opened outside the lock: two threads may open one file twice, which costs a descriptor for a
  // moment only.
  BV_TRY(opened, open_regular(path));
  if (opened.stamp != stamp) {
    return changed(path, stamp, opened.stamp.size);
  }
  auto fresh = std::make_shared<const Descriptor>(std::move(opened.descriptor));
  const std::lock_guard lock(mutex_);
  if (slots_.size() < capacity_) {
    slots_.push_back({file, ++clock_, fresh});
    return fresh;
  }
  const auto oldest = std::min_element(slots_.begin(), slots_.end(),
                                       [](auto& a, auto& b) { return a.used < b.used; });
  *oldest = {file, ++clock_, fresh};
  return fresh;
}

void Mapping::release(std::span<const std::byte> range) const {
  constexpr std::size_t kTiny = std::size_t{64} << 10;
  const std::span<const std::byte> all = bytes();
  const auto around = [](const std::byte* at) {
    return reinterpret_cast<std::uintptr_t>(at) / kAround * kAround;
  };
  const bool inside = !range.empty() && range.data() >= all.data() &&
                      range.data() + range.size() <= all.data() + all.size();
  const bool tiny =
      range.size() < kTiny && around(range.data()) == around(range.data() + range.size());
  if (tiny && !inside) {
    return;
  }
  // A million small tensors, few calls: those of one place go when one of another place does, or a
  // large one. A page that is read again is mapped again.
  const std::uintptr_t place = tiny ? around(range.data()) : kNone;
  if (waiting_.load(std::memory_order_relaxed) != place) {
    if (const std::uintptr_t before = waiting_.exchange(place);
        before != kNone && before != place) {
      const auto base = reinterpret_cast<std::uintptr_t>(all.data());
      release_pages(all, all.subspan(std::max(before, base) - base, 1));
    }
  }
  if (!tiny) {
    release_pages(all, range);
  }
}

void release_pages(std::span<const std::byte> all, std::span<const std::byte> range) {
  // A fault maps its neighbours as well, which may belong to tensors that were released before:
  // they go too. A private read-only page that goes too early is mapped again.
  if (range.empty() || range.data() < all.data() ||
      range.data() + range.size() > all.data() + all.size()) {
    return;
  }
  const auto base = reinterpret_cast<std::uintptr_t>(all.data());
  const auto first = reinterpret_cast<std::uintptr_t>(range.data());
  const std::size_t begin = std::max(first / kAround * kAround, base) - base;
  const std::size_t end =
      std::min((first + range.size() + kAround - 1) / kAround * kAround - base, all.size());
  // Advice only: when it fails, nothing but memory use changes. The map is read-only, so dropping
  // pages loses nothing.
  ::madvise(const_cast<std::byte*>(all.data()) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace bv::io
