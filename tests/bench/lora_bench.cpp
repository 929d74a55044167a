// Merge/ROWSxCOLUMNS/rRANK: bfloat16 base in, bfloat16 base out, against OpenBLAS on the same
// matrices: upcast to float32, sgemm on top of it, downcast, in scratch memory that is used again.
// Merge/copy/rRANK: the same merge against a streaming copy of the base.

#include <dlfcn.h>
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "core/merge/merge_product.hpp"
#include "tests/bench/buffers.hpp"
#include "tests/bench/paired.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#define BV_BENCH_AVX2 __attribute__((target("avx2")))
#else
#define BV_BENCH_AVX2
#endif

namespace bv::bench {
namespace {

/// cblas_sgemm of the OpenBLAS that the loader finds; LD_LIBRARY_PATH may name its folder.
class OpenBlas {
 public:
  using Sgemm = void (*)(int order, int left, int right, int rows, int columns, int inner,
                         float alpha, const float* a, int a_step, const float* b, int b_step,
                         float beta, float* c, int c_step);

  OpenBlas() {
    void* library = ::dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      return;
    }
    sgemm_ = reinterpret_cast<Sgemm>(::dlsym(library, "cblas_sgemm"));
    if (auto* threads =
            reinterpret_cast<void (*)(int)>(::dlsym(library, "openblas_set_num_threads"))) {
      threads(1);
    }
  }
  [[nodiscard]] Sgemm sgemm() const { return sgemm_; }

 private:
  Sgemm sgemm_ = nullptr;
};

BV_BENCH_AVX2 void upcast(const std::byte* source, float* target, std::int64_t count) {
#if defined(__x86_64__)
  for (std::int64_t i = 0; i < count; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 2 * i));
    _mm256_storeu_ps(target + i,
                     _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)));
  }
#else
  for (std::int64_t i = 0; i < count; ++i) {
    target[i] = lora::widen(source + 2 * i, DType::BF16);
  }
#endif
}

#if defined(__x86_64__)
/// Eight floats as bfloat16, to even, in the low halves.
BV_BENCH_AVX2 __m256i rounded(__m256i bits) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))),
                           16);
}
#endif

BV_BENCH_AVX2 void downcast(const float* source, std::byte* target, std::int64_t count) {
#if defined(__x86_64__)
  for (std::int64_t i = 0; i < count; i += 16) {
    const __m256i low = rounded(_mm256_castps_si256(_mm256_loadu_ps(source + i)));
    const __m256i high = rounded(_mm256_castps_si256(_mm256_loadu_ps(source + i + 8)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + 2 * i),
                        _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8));
  }
#else
  for (std::int64_t i = 0; i < count; ++i) {
    lora::narrow(source[i], target + 2 * i, DType::BF16);
  }
#endif
}

/// Matrices of one shape, as many as leave the caches, each with its own factors.
class Matrices {
 public:
  Matrices(std::int64_t rows, std::int64_t columns, std::int64_t rank, std::int64_t bytes)
      : rows_(rows), columns_(columns), rank_(rank) {
    count_ = std::max<std::int64_t>(1, bytes / (rows * columns * 2));
    base_ = std::make_unique<Buffer>(count_ * rows * columns * 2);
    out_ = std::make_unique<Buffer>(count_ * rows * columns * 2);
    for (std::int64_t i = 0; i < base_->size(); i += 2) {  // finite: small numbers of either sign
      const std::uint64_t word = mixed(static_cast<std::uint64_t>(i));
      const auto bits = static_cast<std::uint16_t>((word & 0x807fU) | 0x3c00U | (word & 0x0100U));
      std::memcpy(base_->data() + i, &bits, sizeof bits);
    }
    factors_.resize(static_cast<std::size_t>(rank * (rows + columns)));
    for (std::size_t i = 0; i < factors_.size(); ++i) {
      factors_[i] = static_cast<float>(mixed(i) % 2001) / 1000.0F - 1.0F;
    }
    scratch_.resize(static_cast<std::size_t>(rows * columns));
  }

  void merge() const {
    const auto* b = reinterpret_cast<const std::byte*>(factors_.data());
    const auto* a = reinterpret_cast<const std::byte*>(factors_.data() + rows_ * rank_);
    for (std::int64_t i = 0; i < count_; ++i) {
      const lora::MergeProduct product({b, DType::F32, rows_, rank_, rank_, 1},
                                       {a, DType::F32, rank_, columns_, columns_, 1}, kScale);
      for (std::int64_t row = 0; row < rows_; row += kWindow) {
        const std::int64_t at = (i * rows_ + row) * columns_ * 2;
        const lora::MergeRows window{row,
                                     std::min(rows_, row + kWindow),
                                     base_->data() + at,
                                     out_->data() + at,
                                     columns_ * 2,
                                     columns_ * 2};
        benchmark::DoNotOptimize(product.add_to(lora::best_merge_isa(), DType::BF16, window));
      }
    }
  }

  void sgemm(OpenBlas::Sgemm multiply) {
    const float* b = factors_.data();
    const float* a = factors_.data() + rows_ * rank_;
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::int64_t at = i * rows_ * columns_ * 2;
      upcast(base_->data() + at, scratch_.data(), rows_ * columns_);
      multiply(101, 111, 111, static_cast<int>(rows_), static_cast<int>(columns_),
               static_cast<int>(rank_), kScale, b, static_cast<int>(rank_), a,
               static_cast<int>(columns_), 1, scratch_.data(), static_cast<int>(columns_));
      downcast(scratch_.data(), out_->data() + at, rows_ * columns_);
    }
  }

  void copy() const {
    streaming_copy(base_->data(), out_->data(), static_cast<std::size_t>(base_->size()));
  }
  [[nodiscard]] double bytes() const { return static_cast<double>(base_->size()); }

 private:
  static constexpr float kScale = 1.5F;
  static constexpr std::int64_t kWindow = 30;  // rows at once: whole tiles, as a merge of files has

  std::int64_t rows_, columns_, rank_, count_ = 1;
  std::unique_ptr<Buffer> base_, out_;
  std::vector<float> factors_, scratch_;
};

void add(const std::string& name, const Settings& settings,
         const std::function<void(benchmark::State&)>& work) {
  benchmark::RegisterBenchmark(name.c_str(), work)
      ->Iterations(settings.pairs)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

void add_lora_benchmarks(const Settings& settings) {
  struct Size {
    std::int64_t rows, columns;
  };
  for (const Size size : {Size{4096, 4096}, Size{1024, 2048}}) {
    for (const std::int64_t rank : {8, 16, 32, 64}) {
      add(fmt::format("Merge/{}x{}/r{}", size.rows, size.columns, rank), settings,
          [settings, size, rank](benchmark::State& state) {
            static const OpenBlas kBlas;
            if (kBlas.sgemm() == nullptr) {
              state.SkipWithError("libopenblas.so.0 is not here: LD_LIBRARY_PATH may name it");
              return;
            }
            Matrices matrices(size.rows, size.columns, rank, settings.bytes);
            paired(state, {[&] { matrices.sgemm(kBlas.sgemm()); }, matrices.bytes()},
                   {[&] { matrices.merge(); }, matrices.bytes()});
          });
    }
  }
  for (const std::int64_t rank : {8, 16}) {
    add(fmt::format("Merge/copy/r{}", rank), settings, [settings, rank](benchmark::State& state) {
      Matrices matrices(4096, 4096, rank, settings.bytes);
      paired(state, {[&] { matrices.copy(); }, matrices.bytes()},
             {[&] { matrices.merge(); }, matrices.bytes()});
    });
  }
}

}  // namespace bv::bench
