#include "core/io/output_folder.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

#include "core/base/assert.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::io {
namespace fs = std::filesystem;

namespace {

constexpr int kLockAttempts = 20;  // a run that only looks holds a lock for a moment

Error busy(const fs::path& place) {
  return fail(Code::OutputBusy, fmt::format("another run writes {} now", printable_path(place)))
      .at(printable_path(place))
      .advise("wait for it, or choose another --out");
}

/// Opens a folder without following links and locks it for this process.
Result<Descriptor> lock_folder(const fs::path& folder) {
  Descriptor open(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (open.number() < 0) {
    return system_fault(errno, "opening", folder, Code::OutputPlace).at(printable_path(folder));
  }
  for (int attempt = 0; ::flock(open.number(), LOCK_EX | LOCK_NB) != 0; ++attempt) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return system_fault(errno, "locking", folder, Code::OutputPlace).at(printable_path(folder));
    }
    if (attempt == kLockAttempts) {
      return busy(folder);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return open;
}

/// Another run may have given the folder its final name between the opening and the lock.
bool is_still(const Descriptor& folder, const fs::path& name) {
  struct stat open {};
  struct stat there {};
  return ::fstat(folder.number(), &open) == 0 && ::lstat(name.c_str(), &there) == 0 &&
         open.st_dev == there.st_dev && open.st_ino == there.st_ino;
}

/// Adds to the file that tells what runs wrote in this folder: before they write it.
Status mark(const Descriptor& folder, const fs::path& path, const std::set<std::string>& files) {
  const Descriptor marker(::openat(folder.number(), kRunMarker,
                                   O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644));
  std::string names;
  for (const std::string& file : files) {
    names.append(file).push_back('\0');
  }
  std::size_t done = 0;
  while (marker.number() >= 0 && done < names.size()) {
    const ssize_t wrote = ::write(marker.number(), names.data() + done, names.size() - done);
    if (wrote < 0 && errno != EINTR) {
      break;
    }
    done += wrote > 0 ? static_cast<std::size_t>(wrote) : 0;
  }
  if (marker.number() < 0 || done < names.size()) {
    return system_fault(errno, "creating a file in", path, Code::WriteLost)
        .at(printable_path(path));
  }
  return Done{};
}

Status sync_folder(const fs::path& folder) {
  const Descriptor open(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a folder (EINVAL); the rename is done then all the same.
  if (open.number() >= 0 && ::fsync(open.number()) != 0 && errno != EINVAL && errno != EROFS) {
    return system_fault(errno, "writing back", folder, Code::WriteLost).at(printable_path(folder));
  }
  return Done{};
}

bool is_plain_file(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1;
}

/// Removes all below `folder` that is not one of `files`; true when something was kept.
Result<bool> prune(const fs::path& folder, const fs::path& below,
                   const std::set<std::string>& files) {
  std::vector<fs::path> entries;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    entries.push_back(at->path().filename());
  }
  bool kept = false;
  for (std::size_t i = 0; !error && i < entries.size(); ++i) {
    const fs::path path = folder / entries[i];
    const fs::path name = below / entries[i];
    if (name == kRunMarker) {
      continue;
    }
    if (standing_at(path) == Standing::Folder) {
      BV_TRY(inside, prune(path, name, files));
      kept = kept || inside;
      if (!inside) {
        fs::remove(path, error);
      }
    } else if (files.contains(name.string()) && is_plain_file(path)) {
      kept = true;
    } else {
      fs::remove(path, error);
    }
  }
  if (error) {
    return system_fault(error.value(), "clearing", folder, Code::WriteLost)
        .at(printable_path(folder));
  }
  return kept;
}

std::set<std::string> files_in(const fs::path& folder) {
  std::set<std::string> out;
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    if (standing_at(at->path()) != Standing::Folder) {
      out.insert(at->path().lexically_relative(folder).string());
    }
  }
  return out;
}

Status make_parents(const fs::path& name) {
  std::error_code error;
  fs::create_directories(name.parent_path(), error);
  if (error) {
    return system_fault(error.value(), "creating", name.parent_path(), Code::OutputPlace)
        .at(printable_path(name.parent_path()));
  }
  return Done{};
}

/// The partial folder, made or found, and locked.
Result<Descriptor> take_partial(const fs::path& partial, const OutputRequest& request) {
  if (::mkdir(partial.c_str(), 0777) != 0 && errno != EEXIST) {
    return system_fault(errno, "creating", partial, Code::OutputPlace).at(printable_path(partial));
  }
  BV_TRY(lock, lock_folder(partial));
  if (!is_still(lock, partial)) {
    return busy(partial);
  }
  BV_CHECK(check_own_folder(partial, request));
  BV_CHECK(mark(lock, partial, request.files));
  return std::move(lock);
}

int rename_to_nothing(const fs::path& from, const fs::path& to) {
  const int status = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  if (status == 0 || (errno != EINVAL && errno != ENOSYS)) {
    return status;
  }
  if (standing_at(to) != Standing::Nothing) {
    errno = EEXIST;
    return -1;
  }
  return ::rename(from.c_str(), to.c_str());
}

}  // namespace

Result<OutputFolder> OutputFolder::create(OutputRequest request) {
  BV_CHECK(check_output_place(request));
  const fs::path name = final_name(request.final_path);
  BV_CHECK(make_parents(name));
  BV_TRY(lock, take_partial(partial_name(name), request));
  OutputFolder out(std::move(request), name, std::move(lock));
  BV_CHECK(check_replaceable(name, out.request_));  // a run that just ended may have taken it
  if (!out.request_.resume) {
    BV_CHECK(out.keep_only({}));
  }
  return out;
}

OutputFolder::~OutputFolder() {
  if (partial_.empty() || lock_.number() < 0) {
    return;
  }
  std::error_code error;
  std::size_t entries = 0;
  fs::directory_iterator at(partial_, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {  // ++ would throw
    ++entries;
  }
  std::error_code ignored;
  if (!error && entries <= 1) {
    fs::remove(partial_ / kRunMarker, ignored);
    fs::remove(partial_, ignored);  // not when another file stands there
  }
}

void OutputFolder::abandon() {
  const auto status = keep_only({});
  static_cast<void>(status);
}

Status OutputFolder::keep_only(const std::set<std::string>& files) const {
  if (const auto other = first_unmarked(partial_)) {
    return fail(Code::NotOurs, fmt::format("no run wrote {}", printable_path(partial_ / *other)))
        .at(printable_path(partial_))
        .advise("move it away, or choose another --out; it was not touched");
  }
  auto kept = prune(partial_, {}, files);
  return kept ? Status(Done{}) : Status(std::move(kept).error());
}

Status OutputFolder::sync_parent() const {
  return sync_folder(final_.parent_path());
}

/// Moves the earlier output out of the way, under a name that must be free.
Status OutputFolder::put_aside() const {
  const fs::path old = replaced_name(final_);
  BV_CHECK(check_own_folder(old, request_));
  std::error_code error;
  fs::remove_all(old, error);  // of a run that was interrupted here
  if (error || rename_to_nothing(final_, old) != 0) {
    return system_fault(error ? error.value() : errno, "moving away", final_, Code::OutputPlace)
        .at(printable_path(final_));
  }
  return sync_parent();
}

Status OutputFolder::finish(const std::set<std::string>& files) {
  BV_ASSERT(
      std::includes(request_.files.begin(), request_.files.end(), files.begin(), files.end()));
  const std::vector<std::string> names(files.begin(), files.end());
  for (const std::string& name : names) {
    if (!is_plain_file(partial_ / name)) {
      return fail(Code::WriteLost, fmt::format("{} was written and is not there any more",
                                               printable_path(partial_ / name)))
          .at(printable_path(partial_))
          .advise("another program works in this folder: repeat with another --out");
    }
  }
  if (const auto other = first_unlisted(partial_, names)) {
    return fail(Code::WriteLost,
                fmt::format("{} is not of this run", printable_path(partial_ / *other)))
        .at(printable_path(partial_))
        .advise("another program works in this folder: repeat with another --out");
  }
  BV_CHECK(check_replaceable(final_, request_));
  std::error_code error;
  const bool replace =
      standing_at(final_) == Standing::Folder && !fs::is_empty(final_, error) && !error;
  if (replace) {
    BV_CHECK(put_aside());
  }
  fs::remove(partial_ / kRunMarker, error);
  if (error || ::rename(partial_.c_str(), final_.c_str()) != 0) {  // an empty folder may be there
    const int why = error ? error.value() : errno;
    if (replace) {
      static_cast<void>(rename_to_nothing(replaced_name(final_), final_));
    }
    static_cast<void>(mark(lock_, partial_, request_.files));
    return system_fault(why, "giving the finished output the name", final_, Code::OutputPlace)
        .at(printable_path(final_));
  }
  partial_.clear();
  BV_CHECK(sync_parent());
  const fs::path old = replaced_name(final_);
  if (request_.overwrite && standing_at(old) == Standing::Folder &&
      check_own_folder(old, request_)) {
    if (const auto lock = lock_folder(old); lock && mark(*lock, old, files_in(old))) {
      fs::remove_all(old, error);
    }
  }
  return Done{};
}

Status check_room_for(const fs::path& folder, std::uint64_t bytes) {
  struct statvfs room {};
  if (::statvfs(folder.c_str(), &room) != 0 || room.f_blocks == 0) {
    return Done{};  // a file system that does not say; the writes will
  }
  std::uint64_t available = 0;
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(room.f_bavail),
                             static_cast<std::uint64_t>(room.f_frsize), &available) ||
      bytes <= available) {
    return Done{};
  }
  return fail(Code::DiskFull, fmt::format("disk full: the output needs {} more than {} has",
                                          human_bytes(bytes - available), printable_path(folder)))
      .at(printable_path(folder))
      .pair(fmt::format("{} free", human_bytes(available)),
            fmt::format("{} for the files of this run", human_bytes(bytes)))
      .advise("free space, or choose another --out; nothing was written");
}

Result<FolderLock> FolderLock::take(const fs::path& folder) {
  std::error_code ignored;
  FolderLock out;
  BV_TRY(lock, lock_folder(fs::canonical(folder, ignored)));
  out.lock_ = std::move(lock);
  return out;
}

}  // namespace bv::io
