#include "core/io/writer.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <utility>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

constexpr int kNameAttempts = 1000;
/// After so many bytes the disk is told to begin, so that it works while the next ones are made and
/// little is left for fsync.
constexpr std::uint64_t kWriteBackBytes = std::uint64_t{8} << 20;

Error disk_full(const fs::path& path, std::uint64_t missing, const std::string& why) {
  return fail(Code::DiskFull, fmt::format("disk full writing {} (needs {} more)",
                                          printable_path(path), human_bytes(missing)))
      .at(printable_path(path))
      .fact(why)
      .advise("free space, then repeat");
}

Error already_there(const fs::path& path) {
  return fail(Code::OutputExists, fmt::format("{} is already there", printable_path(path)))
      .at(printable_path(path))
      .advise("choose another output, or delete it first");
}

/// Bytes that a new file may have: what the disk has free and the process may write. A file above
/// the process's limit would end it by a signal, so that limit is looked at first.
Status check_room(int descriptor, std::uint64_t size, const fs::path& path) {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      size > limit.rlim_cur) {
    return disk_full(path, size - limit.rlim_cur,
                     fmt::format("the limit of this process is {} bytes a file (ulimit -f)",
                                 grouped(limit.rlim_cur)));
  }
  struct statvfs room {};
  if (::fstatvfs(descriptor, &room) != 0 || room.f_blocks == 0) {
    return Done{};  // a file system that does not say; the writes will
  }
  std::uint64_t available = 0;
  if (!__builtin_mul_overflow(static_cast<std::uint64_t>(room.f_bavail),
                              static_cast<std::uint64_t>(room.f_frsize), &available) &&
      size > available) {
    return disk_full(
        path, size - available,
        fmt::format("the file needs {} bytes, {} are free", grouped(size), grouped(available)));
  }
  return Done{};
}

/// Gives the file its size, with space behind it where the file system can reserve.
Status reserve(int descriptor, std::uint64_t size, const fs::path& path) {
  BV_CHECK(check_room(descriptor, size, path));
  if (size > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    return disk_full(path, size, "no file has that size");
  }
  int status = 0;
  do {
    status = size == 0 ? 0 : ::fallocate(descriptor, 0, 0, static_cast<off_t>(size));
  } while (status != 0 && errno == EINTR);
  if (status != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
    status = ::ftruncate(descriptor, static_cast<off_t>(size));
  }
  if (status == 0) {
    return Done{};
  }
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
    return disk_full(path, size, "the disk cannot reserve the file");
  }
  return system_fault(errno, "reserving", path, Code::WriteLost).at(printable_path(path));
}

int rename_into_place(const fs::path& from, const fs::path& to, IfExists if_exists) {
  if (if_exists == IfExists::Replace) {
    return ::rename(from.c_str(), to.c_str());
  }
  const int status = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  if (status == 0 || (errno != EINVAL && errno != ENOSYS)) {
    return status;
  }
  // A file system without that flag: a hard link refuses an existing name as well.
  return ::link(from.c_str(), to.c_str()) == 0 ? ::unlink(from.c_str()) : -1;
}

}  // namespace

Status write_all(int descriptor, std::uint64_t offset, std::span<const std::byte> bytes,
                 std::uint64_t still_needed, const fs::path& path) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::pwrite(descriptor, bytes.data() + done, bytes.size() - done,
                                   static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
      const std::uint64_t missing = still_needed - std::min<std::uint64_t>(still_needed, done);
      return disk_full(path, missing,
                       fmt::format("the write at byte {} got {} of {} bytes", grouped(offset),
                                   grouped(done), grouped(bytes.size())));
    }
    if (count <= 0) {
      return system_fault(count < 0 ? errno : EIO, "writing", path, Code::WriteLost)
          .at(printable_path(path));
    }
    done += static_cast<std::size_t>(count);
  }
  return Done{};
}

struct PendingFile::State {
  fs::path final_name;
  fs::path temporary;
  Descriptor descriptor;
  std::uint64_t size = 0;
  IfExists if_exists = IfExists::Refuse;
  bool on_disk = false;  // the temporary name exists
  std::atomic<std::uint64_t> written{0};

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (on_disk) {
      ::unlink(temporary.c_str());
    }
  }
};

PendingFile::PendingFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
PendingFile::PendingFile(PendingFile&&) noexcept = default;
PendingFile& PendingFile::operator=(PendingFile&&) noexcept = default;
PendingFile::~PendingFile() = default;

Result<PendingFile> PendingFile::create(const fs::path& final_name, std::uint64_t size,
                                        IfExists if_exists) {
  struct stat status {};
  if (if_exists == IfExists::Refuse && ::lstat(final_name.c_str(), &status) == 0) {
    return already_there(final_name);
  }
  auto state = std::make_unique<State>();
  state->final_name = final_name;
  state->size = size;
  state->if_exists = if_exists;
  // A short hidden name of its own: no listing takes it for weights, and long final names still
  // fit.
  for (int attempt = 0; attempt < kNameAttempts && !state->on_disk; ++attempt) {
    state->temporary =
        final_name.parent_path() / fmt::format("{}{}-{}", kUnfinishedFile, ::getpid(), attempt);
    state->descriptor = Descriptor(
        ::open(state->temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
    state->on_disk = state->descriptor.number() >= 0;
    if (!state->on_disk && errno != EEXIST) {
      return system_fault(errno, "creating a file for", final_name, Code::WriteLost)
          .at(printable_path(final_name));
    }
  }
  if (!state->on_disk) {
    return fail(Code::OutputExists, fmt::format("{} temporary names beside {} are taken",
                                                kNameAttempts, printable_path(final_name)))
        .at(printable_path(final_name))
        .advise(fmt::format("delete the files {}* of earlier runs", kUnfinishedFile));
  }
  BV_CHECK(reserve(state->descriptor.number(), size, final_name));
  return PendingFile(std::move(state));
}

Status PendingFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) const {
  BV_ASSERT(state_ != nullptr && state_->on_disk);
  BV_ASSERT(offset <= state_->size && bytes.size() <= state_->size - offset);
  const std::uint64_t before =
      std::min(state_->written.load(std::memory_order_relaxed), state_->size);
  const std::uint64_t still_needed = std::max<std::uint64_t>(state_->size - before, bytes.size());
  BV_CHECK(write_all(state_->descriptor.number(), offset, bytes, still_needed, state_->final_name));
  const std::uint64_t done = state_->written.fetch_add(bytes.size(), std::memory_order_relaxed);
  if (done / kWriteBackBytes != (done + bytes.size()) / kWriteBackBytes) {
    // Advice only: commit() syncs, and reports what the disk could not take.
    ::sync_file_range(state_->descriptor.number(), 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  return Done{};
}

Status PendingFile::commit() {
  BV_ASSERT(state_ != nullptr && state_->on_disk);
  struct stat status {};
  if (::fstat(state_->descriptor.number(), &status) != 0 ||
      static_cast<std::uint64_t>(status.st_size) != state_->size) {
    return fail(Code::WriteLost, fmt::format("{} has another size than was written",
                                             printable_path(state_->final_name)))
        .at(printable_path(state_->final_name))
        .pair(counted(status.st_size, "byte"), counted(state_->size, "byte"))
        .advise("another program wrote into the temporary file: repeat in a folder of your own");
  }
  if (::fsync(state_->descriptor.number()) != 0 || ::close(state_->descriptor.release()) != 0) {
    return system_fault(errno, "writing back", state_->final_name, Code::WriteLost)
        .at(printable_path(state_->final_name));
  }
  if (rename_into_place(state_->temporary, state_->final_name, state_->if_exists) != 0) {
    return errno == EEXIST ? already_there(state_->final_name)
                           : system_fault(errno, "naming", state_->final_name, Code::WriteLost)
                                 .at(printable_path(state_->final_name));
  }
  state_->on_disk = false;
  const fs::path folder =
      state_->final_name.has_parent_path() ? state_->final_name.parent_path() : fs::path(".");
  const Descriptor parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a folder (EINVAL); the rename is done then all the same.
  if (parent.number() >= 0 && ::fsync(parent.number()) != 0 && errno != EINVAL && errno != EROFS) {
    return system_fault(errno, "writing back", folder, Code::WriteLost).at(printable_path(folder));
  }
  return Done{};
}

Status write_file(const fs::path& path, std::string_view text) {
  BV_TRY(file, PendingFile::create(path, text.size(), IfExists::Replace));
  BV_CHECK(file.write_at(0, std::as_bytes(std::span(text.data(), text.size()))));
  return file.commit();
}

Result<std::string> read_file(const fs::path& path, std::uint64_t limit_bytes, Code too_large) {
  BV_TRY(opened, open_regular(path));
  const auto refused = [&](const std::string& found) {
    return fail(too_large,
                fmt::format("{} is larger than such a file may be", printable_path(path)))
        .at(printable_path(path))
        .pair(found, fmt::format("at most {} bytes", grouped(limit_bytes)))
        .advise("give the right file");
  };
  if (opened.stamp.size > limit_bytes) {
    return refused(counted(opened.stamp.size, "byte"));
  }
  // The size is a hint only: a file may grow meanwhile.
  std::string out;
  std::size_t done = 0;
  out.resize(opened.stamp.size + 1);
  while (true) {
    const ssize_t count = ::read(opened.descriptor.number(), out.data() + done, out.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return system_fault(errno, "reading", path, Code::ReadFailed).at(printable_path(path));
    }
    done += static_cast<std::size_t>(count);
    if (done > limit_bytes) {
      return refused("more bytes");
    }
    if (count == 0) {
      out.resize(done);
      return out;
    }
    if (done == out.size()) {
      out.resize(std::min<std::uint64_t>(out.size() * 2 + 4096, limit_bytes + 1));
    }
  }
}

}  // namespace bv::io
