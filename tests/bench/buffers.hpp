#pragma once
// Memory of the data benchmarks: huge pages where the kernel gives them, touched once, never zero.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bv::bench {

/// The element generator of the benchmarks: any element can be made again from its number.
inline std::uint64_t mixed(std::uint64_t number) {
  number += 0x9E3779B97F4A7C15ULL;
  number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9ULL;
  number = (number ^ (number >> 27)) * 0x94D049BB133111EBULL;
  return number ^ (number >> 31);
}

inline void fill(std::span<std::byte> bytes, std::uint64_t seed) {
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    const std::uint64_t word = mixed(seed + at);
    std::memcpy(bytes.data() + at, &word, std::min<std::size_t>(8, bytes.size() - at));
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) inline void streaming_copy_avx2(const std::byte* source,
                                                                std::byte* target,
                                                                std::size_t bytes) {
  for (std::size_t k = 0; k + 64 <= bytes; k += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(source) + k + 2048, _MM_HINT_T0);
    for (std::size_t half = k; half < k + 64; half += 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(target + half),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + half)));
    }
  }
  std::memcpy(target + bytes / 64 * 64, source + bytes / 64 * 64, bytes % 64);
  _mm_sfence();
}
#endif

/// The anchor of moves in memory: stores that pass the caches, at every size. (memcpy does so only
/// above a size that differs from machine to machine: below it is up to half as slow, above equal.)
/// `target` stands on a line boundary.
inline void streaming_copy(const std::byte* source, std::byte* target, std::size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    return streaming_copy_avx2(source, target, bytes);
  }
#endif
  std::memcpy(target, source, bytes);
}

class Buffer {
 public:
  explicit Buffer(std::int64_t bytes) : size_(static_cast<std::size_t>(bytes)) {
    void* const first =
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = first == MAP_FAILED ? nullptr : static_cast<std::byte*>(first);
    if (data_ != nullptr) {
      ::madvise(data_, size_, MADV_HUGEPAGE);
      fill(bytes_span(), 1);
    }
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) {
      ::munmap(data_, size_);
    }
  }
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(size_); }
  [[nodiscard]] std::span<std::byte> bytes_span() const { return {data_, size_}; }

 private:
  std::size_t size_;
  std::byte* data_ = nullptr;
};

}  // namespace bv::bench
