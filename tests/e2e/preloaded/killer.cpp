// Preloaded into the command by tests. The call of number KILL_AT among those that change files
// (counted over all threads) is not made: the process is killed by SIGKILL in its place. STEPS
// names a file for how many such calls there were.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<long> steps{0};

void step() {
  static const long at = [] {
    const char* text = std::getenv("KILL_AT");
    return text == nullptr ? -1 : std::atol(text);
  }();
  if (++steps == at) {
    ::kill(::getpid(), SIGKILL);
  }
}

/// Writes what was counted when the process ends by itself.
struct Report {
  ~Report() {
    const char* path = std::getenv("STEPS");
    if (path == nullptr) {
      return;
    }
    const long seen = steps;
    if (std::FILE* file = std::fopen(path, "w")) {
      std::fprintf(file, "%ld\n", seen);
      std::fclose(file);
    }
  }
} report;

template <class Function>
Function real(Function, const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int opened(const char* name, const char* path, int flags, mode_t mode) {
  if ((flags & O_CREAT) != 0) {
    step();
  }
  return real(static_cast<int (*)(const char*, int, ...)>(nullptr), name)(path, flags, mode);
}

}  // namespace

#define BV_MODE(last)                            \
  mode_t mode = 0;                               \
  va_list list;                                  \
  va_start(list, last);                          \
  mode = static_cast<mode_t>(va_arg(list, int)); \
  va_end(list)

extern "C" {

int open(const char* path, int flags, ...) {
  BV_MODE(flags);
  return opened("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  BV_MODE(flags);
  return opened("open64", path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  BV_MODE(flags);
  if ((flags & O_CREAT) != 0) {
    step();
  }
  return real(&openat, "openat")(folder, path, flags, mode);
}
ssize_t pwrite(int file, const void* bytes, size_t count, off_t at) {
  step();
  return real(&pwrite, "pwrite")(file, bytes, count, at);
}
ssize_t pwrite64(int file, const void* bytes, size_t count, off64_t at) {
  step();
  return real(&pwrite64, "pwrite64")(file, bytes, count, at);
}
int fsync(int file) {
  step();
  return real(&fsync, "fsync")(file);
}
int mkdir(const char* path, mode_t mode) noexcept {
  step();
  return real(&mkdir, "mkdir")(path, mode);
}
int unlink(const char* path) noexcept {
  step();
  return real(&unlink, "unlink")(path);
}
int remove(const char* path) noexcept {
  step();
  return real(&remove, "remove")(path);
}
int rename(const char* from, const char* to) noexcept {
  step();
  return real(&rename, "rename")(from, to);
}
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) noexcept {
  step();
  return real(&renameat2, "renameat2")(a, from, b, to, flags);
}

}  // extern "C"
