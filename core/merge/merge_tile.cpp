#include "core/merge/merge_tile.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/assert.hpp"
#include "core/kinds/values.hpp"

namespace bv::lora {
namespace {

bool merge_tile_scalar(DType dtype, const Tile& tile) {
  const std::int64_t size = bytes(dtype);
  const float limit = overflow_from(dtype);
  bool bad = false;
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    for (std::int64_t j = 0; j < tile_columns(MergeIsa::Scalar); ++j) {
      const float sum =
          merge_sum(tile.left + i, kTileRows, tile.right + j, kPanelColumns, tile.rank);
      const float delta = tile.scale * sum;
      const std::byte* base = tile.base + i * tile.base_step + j * size;
      std::byte* out = tile.out + i * tile.out_step + j * size;
      if (delta == 0) {
        std::memmove(out, base, static_cast<std::size_t>(size));
        continue;
      }
      const float value = widen(base, dtype) + delta;
      bad = bad || !(std::abs(value) < limit);
      narrow(value, out, dtype);
    }
  }
  return bad;
}

}  // namespace

bool has_merge_isa(MergeIsa isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return isa == MergeIsa::Scalar || (isa == MergeIsa::Avx2 ? avx2 : avx512);
#else
  return isa == MergeIsa::Scalar;
#endif
}

MergeIsa best_merge_isa() {
  if (has_merge_isa(MergeIsa::Avx512)) {
    return MergeIsa::Avx512;
  }
  return has_merge_isa(MergeIsa::Avx2) ? MergeIsa::Avx2 : MergeIsa::Scalar;
}

float merge_sum(const float* left, std::int64_t left_step, const float* right,
                std::int64_t right_step, std::int64_t rank) {
  float sum = 0;
  for (std::int64_t k = 0; k < rank; ++k) {
    sum = std::fma(left[k * left_step], right[k * right_step], sum);
  }
  return sum;
}

float widen(const std::byte* element, DType dtype) {
  if (dtype == DType::BF16) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, element, sizeof bits);
    return std::bit_cast<float>(std::uint32_t{bits} << 16U);
  }
  if (dtype == DType::F32) {
    float value = 0;
    std::memcpy(&value, element, sizeof value);
    return value;
  }
  BV_ASSERT(dtype == DType::F16);
  return static_cast<float>(kinds::load(element, dtype));
}

void narrow(float value, std::byte* element, DType dtype) {
  kinds::store(static_cast<double>(value), element, dtype);
}

void widen_run(const std::byte* first, DType dtype, std::int64_t stride, std::int64_t count,
               float* out) {
  if (dtype == DType::F32 && stride == 1) {
    std::memcpy(out, first, static_cast<std::size_t>(count) * sizeof(float));
  } else if (dtype == DType::BF16) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, first + i * stride * 2, sizeof bits);
      out[i] = std::bit_cast<float>(std::uint32_t{bits} << 16U);
    }
  } else {
    const std::int64_t step = stride * bytes(dtype);
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = widen(first + i * step, dtype);
    }
  }
}

float overflow_from(DType dtype) {
  if (dtype == DType::BF16) {
    return std::bit_cast<float>(std::uint32_t{0x7f7f8000});
  }
  return dtype == DType::F16 ? 65520.0F : std::numeric_limits<float>::infinity();
}

bool merge_tile(MergeIsa isa, DType dtype, const Tile& tile) {
#if defined(__x86_64__)
  switch (isa) {
    case MergeIsa::Avx512:
      return merge_tile_avx512(dtype, tile);
    case MergeIsa::Avx2:
      return merge_tile_avx2(dtype, tile);
    case MergeIsa::Scalar:
      break;
  }
#endif
  static_cast<void>(isa);
  return merge_tile_scalar(dtype, tile);
}

}  // namespace bv::lora
