#include "core/move/turn.hpp"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bv::move {
namespace {

template <std::size_t kSize>
constexpr int kLane = static_cast<int>(kLaneBytes / static_cast<std::int64_t>(kSize));

/// What an instruction set has: `turn` of the first kLane rows and kColumns columns, and `copy` of
/// a column. Copies load everything before they store: a load waits for any store before it that
/// lies at the same place of a page. What is usual has no loop, whose end would be guessed wrong
/// too often.
struct Scalar {
  template <std::size_t kSize>
  static constexpr std::int64_t kColumns = 16;

  template <std::size_t kSize>
  static void turn(const std::byte* packed, std::byte* const* target_rows, std::int64_t rows,
                   std::int64_t at, std::int64_t columns) {
    constexpr auto kStep = static_cast<std::int64_t>(kSize);
    for (std::int64_t i = 0; i < std::min<std::int64_t>(rows, kLane<kSize>); ++i) {
      for (std::int64_t j = 0; j < std::min(columns, kColumns<kSize>); ++j) {
        std::memcpy(target_rows[i] + at + j * kStep, packed + j * kStripBytes + i * kStep, kSize);
      }
    }
  }

  static void copy(const std::byte* from, std::int64_t bytes, std::byte* to) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
};

#if defined(__x86_64__)

#define BV_AVX2 __attribute__((target("avx2")))
#define BV_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline
#define BV_AVX512 __attribute__((target("avx512f,avx512bw")))
#define BV_AVX512_INLINE __attribute__((target("avx512f,avx512bw"), always_inline)) inline

__m128i load16(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

template <std::size_t kSize>
BV_AVX2_INLINE __m256i low_halves(__m256i a, __m256i b) {
  if constexpr (kSize == 1) {
    return _mm256_unpacklo_epi8(a, b);
  } else if constexpr (kSize == 2) {
    return _mm256_unpacklo_epi16(a, b);
  } else if constexpr (kSize == 4) {
    return _mm256_unpacklo_epi32(a, b);
  } else {
    return _mm256_unpacklo_epi64(a, b);
  }
}

template <std::size_t kSize>
BV_AVX2_INLINE __m256i high_halves(__m256i a, __m256i b) {
  if constexpr (kSize == 1) {
    return _mm256_unpackhi_epi8(a, b);
  } else if constexpr (kSize == 2) {
    return _mm256_unpackhi_epi16(a, b);
  } else if constexpr (kSize == 4) {
    return _mm256_unpackhi_epi32(a, b);
  } else {
    return _mm256_unpackhi_epi64(a, b);
  }
}

template <std::size_t kSize>
BV_AVX512_INLINE __m512i low_halves(__m512i a, __m512i b) {
  if constexpr (kSize == 1) {
    return _mm512_unpacklo_epi8(a, b);
  } else if constexpr (kSize == 2) {
    return _mm512_unpacklo_epi16(a, b);
  } else if constexpr (kSize == 4) {
    return _mm512_unpacklo_epi32(a, b);
  } else {
    return _mm512_unpacklo_epi64(a, b);
  }
}

template <std::size_t kSize>
BV_AVX512_INLINE __m512i high_halves(__m512i a, __m512i b) {
  if constexpr (kSize == 1) {
    return _mm512_unpackhi_epi8(a, b);
  } else if constexpr (kSize == 2) {
    return _mm512_unpackhi_epi16(a, b);
  } else if constexpr (kSize == 4) {
    return _mm512_unpackhi_epi32(a, b);
  } else {
    return _mm512_unpackhi_epi64(a, b);
  }
}

/// The lanes of two columns, kLane apart.
template <std::size_t kSize>
BV_AVX2_INLINE __m256i two_lanes(const std::byte* at) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(at)),
                                 load16(at + kLane<kSize> * kStripBytes), 1);
}

/// The lanes of four columns, kLane apart.
template <std::size_t kSize>
BV_AVX512_INLINE __m512i four_lanes(const std::byte* at) {
  constexpr std::int64_t kStep = kLane<kSize> * kStripBytes;
  __m512i out = _mm512_castsi128_si512(load16(at));
  out = _mm512_mask_broadcast_i32x4(out, 0x00F0, load16(at + kStep));
  out = _mm512_mask_broadcast_i32x4(out, 0x0F00, load16(at + 2 * kStep));
  return _mm512_mask_broadcast_i32x4(out, 0xF000, load16(at + 3 * kStep));
}

BV_AVX2_INLINE void store(std::byte* at, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
}
BV_AVX512_INLINE void store(std::byte* at, __m512i value) {
  _mm512_storeu_si512(at, value);
}

/// In each lane, kLane vectors of one column each become kLane rows: interleaved by halves as often
/// as it takes.
struct Avx2 {
  template <std::size_t kSize>
  static constexpr std::int64_t kColumns = 2 * kLane<kSize>;

  template <std::size_t kSize>
  BV_AVX2 static void turn(const std::byte* packed, std::byte* const* target_rows,
                           std::int64_t rows, std::int64_t at, std::int64_t columns) {
    constexpr int kHalf = kLane<kSize> / 2;
    __m256i a[kLane<kSize>];
#pragma GCC unroll 16
    for (int i = 0; i < kLane<kSize>; ++i) {
      a[i] = two_lanes<kSize>(packed + i * kStripBytes);
    }
#pragma GCC unroll 4
    for (int round = 1; round < kLane<kSize>; round *= 2) {
      __m256i b[kLane<kSize>];
#pragma GCC unroll 8
      for (int i = 0; i < kHalf; ++i) {
        b[2 * i] = low_halves<kSize>(a[i], a[i + kHalf]);
        b[2 * i + 1] = high_halves<kSize>(a[i], a[i + kHalf]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kLane<kSize>; ++i) {
        a[i] = b[i];
      }
    }
    if (rows >= kLane<kSize> && columns >= kColumns<kSize>) {
#pragma GCC unroll 16
      for (int i = 0; i < kLane<kSize>; ++i) {
        store(target_rows[i] + at, a[i]);
      }
      return;
    }
    std::byte ends[kLane<kSize>][sizeof(__m256i)];
#pragma GCC unroll 16
    for (int i = 0; i < kLane<kSize>; ++i) {
      store(ends[i], a[i]);
    }
    const auto bytes = static_cast<std::size_t>(std::min(columns, kColumns<kSize>)) * kSize;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(rows, kLane<kSize>); ++i) {
      std::memcpy(target_rows[i] + at, ends[i], bytes);
    }
  }

  template <std::size_t kVectors>
  BV_AVX2_INLINE static void copy_vectors(const std::byte* from, std::byte* to) {
    __m256i a[kVectors];
#pragma GCC unroll 6
    for (std::size_t k = 0; k < kVectors; ++k) {
      a[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k * 32));
    }
#pragma GCC unroll 6
    for (std::size_t k = 0; k < kVectors; ++k) {
      store(to + k * 32, a[k]);
    }
  }

  BV_AVX2 static void copy(const std::byte* from, std::int64_t bytes, std::byte* to) {
    if (bytes == kStripBytes) {
      return copy_vectors<6>(from, to);
    }
    if (bytes == kShortStripBytes) {
      return copy_vectors<4>(from, to);
    }
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
};

struct Avx512 {
  template <std::size_t kSize>
  static constexpr std::int64_t kColumns = 4 * kLane<kSize>;

  template <std::size_t kSize>
  BV_AVX512 static void turn(const std::byte* packed, std::byte* const* target_rows,
                             std::int64_t rows, std::int64_t at, std::int64_t columns) {
    constexpr int kHalf = kLane<kSize> / 2;
    __m512i a[kLane<kSize>];
#pragma GCC unroll 16
    for (int i = 0; i < kLane<kSize>; ++i) {
      a[i] = four_lanes<kSize>(packed + i * kStripBytes);
    }
#pragma GCC unroll 4
    for (int round = 1; round < kLane<kSize>; round *= 2) {
      __m512i b[kLane<kSize>];
#pragma GCC unroll 8
      for (int i = 0; i < kHalf; ++i) {
        b[2 * i] = low_halves<kSize>(a[i], a[i + kHalf]);
        b[2 * i + 1] = high_halves<kSize>(a[i], a[i + kHalf]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kLane<kSize>; ++i) {
        a[i] = b[i];
      }
    }
    if (rows >= kLane<kSize> && columns >= kColumns<kSize>) {
#pragma GCC unroll 16
      for (int i = 0; i < kLane<kSize>; ++i) {
        store(target_rows[i] + at, a[i]);
      }
      return;
    }
    std::byte ends[kLane<kSize>][sizeof(__m512i)];
#pragma GCC unroll 16
    for (int i = 0; i < kLane<kSize>; ++i) {
      store(ends[i], a[i]);
    }
    const auto bytes = static_cast<std::size_t>(std::min(columns, kColumns<kSize>)) * kSize;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(rows, kLane<kSize>); ++i) {
      std::memcpy(target_rows[i] + at, ends[i], bytes);
    }
  }

  template <std::size_t kVectors>
  BV_AVX512_INLINE static void copy_vectors(const std::byte* from, std::byte* to) {
    __m512i a[kVectors];
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kVectors; ++k) {
      a[k] = _mm512_loadu_si512(from + k * 64);
    }
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kVectors; ++k) {
      store(to + k * 64, a[k]);
    }
  }

  BV_AVX512 static void copy(const std::byte* from, std::int64_t bytes, std::byte* to) {
    if (bytes == kStripBytes) {
      return copy_vectors<3>(from, to);
    }
    if (bytes == kShortStripBytes) {
      return copy_vectors<2>(from, to);
    }
    std::int64_t k = 0;
    for (; k + 64 <= bytes; k += 64) {
      store(to + k, _mm512_loadu_si512(from + k));
    }
    if (k < bytes) {  // a whole vector: there is room
      store(to + k, _mm512_maskz_loadu_epi8((std::uint64_t{1} << (bytes - k)) - 1, from + k));
    }
  }
};

#endif

/// Every second of elements of 2 bytes, eight at a time: those of a first vector are in the low
/// halves of its words, those of a second one, which begins an element earlier so that nothing
/// behind the last one is read, in the high halves. Returns how many are packed.
std::int64_t pack_every_second(const std::byte* from, std::int64_t rows, std::byte* to) {
  std::int64_t i = 0;
#if defined(__x86_64__)
  for (; i + 8 <= rows; i += 8) {
    const __m128i low = _mm_srai_epi32(_mm_slli_epi32(load16(from + i * 4), 16), 16);
    const __m128i high = _mm_srai_epi32(load16(from + i * 4 + 14), 16);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * 2), _mm_packs_epi32(low, high));
  }
#endif
  return i;
}

template <class Set, std::size_t kSize>
void pack(const Columns& column, std::byte* to) {
  constexpr auto kStep = static_cast<std::int64_t>(kSize);
  if (column.unit() == 1) {
    Set::copy(column.at(), column.bytes(), to);
    return;
  }
  const bool is_pair = column.unit() == 2 && kSize == 2;
  std::int64_t i = is_pair ? pack_every_second(column.at(), column.rows(), to) : 0;
  for (; i < column.rows(); ++i) {
    std::memcpy(to + i * kStep, column.at() + i * column.unit() * kStep, kSize);
  }
}

/// A little is packed after each turn. The walks are copied, so that they stay in registers.
template <class Set, std::size_t kSize>
void turn_block(const TurnTask& task, Columns& packing, Columns& fetching) {
  constexpr std::int64_t kTogether = Set::template kColumns<kSize>;
  Columns packed = packing;
  Columns fetched = fetching;
  const std::int64_t turns =
      (task.rows + kLane<kSize> - 1) / kLane<kSize> * ((task.columns + kTogether - 1) / kTogether);
  const auto pack_next = [&] {
    if (!fetched.is_end()) {
      fetched.fetch();
      fetched.next();
    }
    pack<Set, kSize>(packed, task.next + packed.slot());
    packed.next();
  };
  std::int64_t owed = 0;  // columns, by `turns`
  for (std::int64_t i = 0; i < task.rows; i += kLane<kSize>) {
    for (std::int64_t j = 0; j < task.columns; j += kTogether) {
      Set::template turn<kSize>(
          task.packed + j * kStripBytes + i * static_cast<std::int64_t>(kSize),
          task.target_rows + i, task.rows - i, j * static_cast<std::int64_t>(kSize),
          task.columns - j);
      for (owed += task.next_columns; owed >= turns; owed -= turns) {
        pack_next();
      }
    }
  }
  for (std::int64_t n = 0; turns == 0 && n < task.next_columns; ++n) {
    pack_next();
  }
  packing = packed;
  fetching = fetched;
}

template <std::size_t kSize>
void turn_scalar(const TurnTask& task, Columns& packing, Columns& fetching) {
  turn_block<Scalar, kSize>(task, packing, fetching);
}

#if defined(__x86_64__)
template <std::size_t kSize>
BV_AVX2 __attribute__((flatten)) void turn_avx2(const TurnTask& task, Columns& packing,
                                                Columns& fetching) {
  turn_block<Avx2, kSize>(task, packing, fetching);
}

template <std::size_t kSize>
BV_AVX512 __attribute__((flatten)) void turn_avx512(const TurnTask& task, Columns& packing,
                                                    Columns& fetching) {
  turn_block<Avx512, kSize>(task, packing, fetching);
}
#endif

template <std::size_t kSize>
Turn turn_for(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::Avx512) {
    return turn_avx512<kSize>;
  }
  if (isa == Isa::Avx2) {
    return turn_avx2<kSize>;
  }
#endif
  static_cast<void>(isa);
  return turn_scalar<kSize>;
}

}  // namespace

Turn turn_of(Isa isa, std::size_t element_bytes) {
  switch (element_bytes) {
    case 1:
      return turn_for<1>(isa);
    case 2:
      return turn_for<2>(isa);
    case 4:
      return turn_for<4>(isa);
    default:
      return turn_for<8>(isa);
  }
}

}  // namespace bv::move
