// Preloaded into the command by tests. The allocation of number REFUSE_ALLOCATION, counted from
// main, throws std::bad_alloc; ALLOCATIONS names a file for how many there were. Threads beyond the
// first REFUSE_THREADS do not start.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace {

std::atomic<bool> armed{false};
std::atomic<long> seen{0};
std::atomic<long> threads{0};
long fail_at = -1;
int (*real_main)(int, char**, char**) = nullptr;

long number(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? -1 : std::atol(text);
}

int watched_main(int argc, char** argv, char** environment) {
  fail_at = number("REFUSE_ALLOCATION");
  armed = true;
  const int code = real_main(argc, argv, environment);
  armed = false;
  if (const char* path = std::getenv("ALLOCATIONS")) {
    if (std::FILE* file = std::fopen(path, "w")) {
      std::fprintf(file, "%ld\n", seen.load());
      std::fclose(file);
    }
  }
  return code;
}

void* taken(std::size_t size, std::size_t alignment) {
  if (armed && ++seen == fail_at) {
    return nullptr;
  }
  return alignment == 0
             ? std::malloc(size == 0 ? 1 : size)
             : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

/// As the standard's operator new ends: the new handler, which throws here, or the exception.
[[noreturn]] void* refuse() {
  if (const std::new_handler handler = std::get_new_handler()) {
    handler();
  }
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) {
  void* at = taken(size, 0);
  return at == nullptr ? refuse() : at;
}
void* operator new[](std::size_t size) {
  return operator new(size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return taken(size, 0);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  void* at = taken(size, static_cast<std::size_t>(alignment));
  return at == nullptr ? refuse() : at;
}
void operator delete(void* at) noexcept {
  std::free(at);
}
void operator delete[](void* at) noexcept {
  std::free(at);
}
void operator delete(void* at, std::size_t) noexcept {
  std::free(at);
}
void operator delete[](void* at, std::size_t) noexcept {
  std::free(at);
}
void operator delete(void* at, const std::nothrow_t&) noexcept {
  std::free(at);
}
void operator delete(void* at, std::align_val_t) noexcept {
  std::free(at);
}
void operator delete(void* at, std::size_t, std::align_val_t) noexcept {
  std::free(at);
}

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* how, void* (*body)(void*),
                              void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  const long most = number("REFUSE_THREADS");
  if (most >= 0 && ++threads > most) {
    return EAGAIN;
  }
  return reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"))(thread, how, body, argument);
}

extern "C" int __libc_start_main(int (*body)(int, char**, char**), int argc, char** argv,
                                 void (*init)(), void (*fini)(), void (*rtld_fini)(),
                                 void* stack_end) {
  using Start =
      int (*)(int (*)(int, char**, char**), int, char**, void (*)(), void (*)(), void (*)(), void*);
  real_main = body;
  return reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"))(
      watched_main, argc, argv, init, fini, rtld_fini, stack_end);
}
