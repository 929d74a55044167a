#include "core/io/named_output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <span>
#include <thread>
#include <utility>

#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

constexpr int kLinksMax = 40;
constexpr std::chrono::milliseconds kStep{10};
constexpr int kStepsMax = 200;

/// The name that links to nothing lead to.
fs::path end_of_links(fs::path path) {
  std::error_code error;
  for (int i = 0; i < kLinksMax; ++i) {
    const fs::path target = fs::read_symlink(path, error);
    if (error) {
      break;
    }
    path = path.parent_path() / target;  // an absolute one stands alone
  }
  return path;
}

bool is_same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// stdout or stderr when one of them is this file; -1 otherwise.
int own_stream(const struct stat& file) {
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat own {};
    if (::fstat(stream, &own) == 0 && is_same(file, own)) {
      return stream;
    }
  }
  return -1;
}

Status write_into(int descriptor, std::string_view text, const fs::path& path) {
  while (!text.empty()) {
    const ssize_t count = ::write(descriptor, text.data(), text.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return system_fault(count < 0 ? errno : EIO, "writing", path, Code::WriteLost)
          .at(printable_path(path));
    }
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return Done{};
}

/// Opens what is there without ever replacing it. A pipe may get its reader a little later.
Result<Descriptor> open_there(const fs::path& path, const struct stat& there) {
  const bool is_pipe = S_ISFIFO(there.st_mode);
  const int how = O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (is_pipe ? 0 : O_TRUNC);
  Descriptor out(::open(path.c_str(), how));
  for (int i = 0; i < kStepsMax && out.number() < 0 && errno == ENXIO && is_pipe; ++i) {
    std::this_thread::sleep_for(kStep);
    out = Descriptor(::open(path.c_str(), how));
  }
  if (out.number() < 0 && errno == ENXIO && is_pipe) {
    return fail(Code::CannotWrite, fmt::format("nobody reads the pipe {}", printable_path(path)))
        .at(printable_path(path))
        .advise("start its reader first, or name a file");
  }
  if (out.number() < 0) {
    return system_fault(errno, "opening", path, Code::CannotWrite).at(printable_path(path));
  }
  ::fcntl(out.number(), F_SETFL, 0);  // writes wait from here on
  return out;
}

/// What a name leads to at this moment.
struct Place {
  fs::path file;         // a regular file, or a name that is free; "" for what takes a stream
  int own = -1;          // stdout or stderr
  struct stat there {};  // of a pipe or a character device
};

Result<Place> place_of(const fs::path& path) {
  Place out;
  if (::stat(path.c_str(), &out.there) != 0) {
    out.file = errno == ENOENT ? end_of_links(path) : path;
    return out;
  }
  out.own = S_ISDIR(out.there.st_mode) ? -1 : own_stream(out.there);
  if (out.own >= 0) {
    return out;
  }
  if (S_ISREG(out.there.st_mode)) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    struct stat found {};
    if (!error && ::stat(real.c_str(), &found) == 0 && is_same(out.there, found)) {
      out.file = real;
    }
  } else if (!S_ISCHR(out.there.st_mode) && !S_ISFIFO(out.there.st_mode)) {
    return fail(Code::CannotWrite, fmt::format("{} is not a file", printable_path(path)))
        .at(printable_path(path))
        .pair(S_ISDIR(out.there.st_mode)    ? "a folder"
              : S_ISSOCK(out.there.st_mode) ? "a socket"
                                            : "a block device",
              "the name of a file")
        .advise("give the name of a file");
  }
  return out;
}

Status write_stream(const fs::path& path, const Place& place, std::string_view text) {
  if (place.own >= 0) {
    return write_into(place.own, text, path);
  }
  BV_TRY(descriptor, open_there(path, place.there));
  BV_CHECK(write_into(descriptor.number(), text, path));
  return ::close(descriptor.release()) == 0
             ? Status(Done{})
             : Status(system_fault(errno, "writing", path, Code::WriteLost));
}

}  // namespace

Status write_named(const fs::path& path, std::string_view text) {
  BV_TRY(place, place_of(path));
  return place.file.empty() ? write_stream(path, place, text) : write_file(place.file, text);
}

Status NamedOutputs::add(const fs::path& path, std::string text) {
  BV_TRY(place, place_of(path));
  if (place.file.empty()) {
    streams_.emplace_back(path, std::move(text));
    return Done{};
  }
  BV_TRY(file, PendingFile::create(place.file, text.size(), IfExists::Replace));
  BV_CHECK(file.write_at(0, std::as_bytes(std::span(text.data(), text.size()))));
  files_.emplace_back(place.file, std::move(file));
  return Done{};
}

Status NamedOutputs::commit() {
  for (const auto& [path, text] : streams_) {
    told_.insert(path);
    BV_CHECK(write_named(path, text));
  }
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (const Status named = files_[i].second.commit(); !named) {
      std::error_code ignored;
      for (std::size_t done = 0; done <= i; ++done) {  // this one may have got its name as well
        if (fs::is_regular_file(files_[done].first, ignored)) {
          fs::remove(files_[done].first, ignored);
        }
      }
      return named;
    }
  }
  return Done{};
}

}  // namespace bv::io
