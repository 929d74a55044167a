#include "properties/attacks/generators/tensors.hpp"

#include <cstring>

#include "core/base/assert.hpp"

namespace bv::generators {
namespace {

constexpr std::array kTensorFields = {
    field("dtype", &TensorDraw::dtype, {0, 1, 2, 3}),
    field("pattern", &TensorDraw::pattern, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}),
    field("elements", &TensorDraw::elements, {1, 2, 3, 7, 16, 33, 64, 257}),
    field("seed", &TensorDraw::seed, {0, 1, 2, 3, 5, 8, 13, 21, 34, 55}),
};

constexpr std::array kDtypes = {DType::BF16, DType::F16, DType::F32, DType::F64};
constexpr std::int64_t kUlpsMax = 3;

/// Where sign, exponent and mantissa lie.
struct Form {
  unsigned width = 16;
  unsigned mantissa = 7;
  [[nodiscard]] std::uint64_t sign() const { return std::uint64_t{1} << (width - 1); }
  [[nodiscard]] std::uint64_t mantissa_mask() const { return (std::uint64_t{1} << mantissa) - 1; }
  [[nodiscard]] std::uint64_t infinity() const { return (sign() - 1) & ~mantissa_mask(); }
  [[nodiscard]] std::uint64_t quiet() const { return std::uint64_t{1} << (mantissa - 1); }
  /// +1: the exponent's bias.
  [[nodiscard]] std::uint64_t one() const { return (infinity() >> 1U) & ~mantissa_mask(); }
};

Form form_of(DType dtype) {
  if (dtype == DType::F16) {
    return {16, 10};
  }
  if (dtype == DType::F32) {
    return {32, 23};
  }
  if (dtype == DType::F64) {
    return {64, 52};
  }
  BV_ASSERT(dtype == DType::BF16);
  return {16, 7};
}

std::uint64_t any_sign(const Form& form, Random& random) {
  return random.below(2) == 0 ? 0 : form.sign();
}

/// A mantissa that is small, large or anything between, never 0.
std::uint64_t mantissa_of(std::uint64_t mask, Random& random) {
  switch (random.below(3)) {
    case 0:
      return 1;
    case 1:
      return mask;
    default:
      return random.next() % mask + 1;
  }
}

std::uint64_t element(Pattern pattern, const Form& form, Random& random) {
  const std::uint64_t sign = any_sign(form, random);
  switch (pattern) {
    case Pattern::One:
      return form.one();
    case Pattern::Zeros:
      return sign;
    case Pattern::NearOne:
      return sign | (form.one() + static_cast<std::uint64_t>(random.between(-kUlpsMax, kUlpsMax)));
    case Pattern::Subnormal:
      return sign | mantissa_of(form.mantissa_mask(), random);
    case Pattern::Largest:
      return sign | (form.infinity() - 1);
    case Pattern::Infinite:
      return sign | form.infinity();
    case Pattern::QuietNan:
      return sign | form.infinity() | form.quiet() | (random.next() & (form.quiet() - 1));
    case Pattern::SignalNan:
      return sign | form.infinity() | mantissa_of(form.quiet() - 1, random);
    case Pattern::Noise:
      return random.next() & (form.sign() | (form.sign() - 1));
    case Pattern::Mixed:
      return element(static_cast<Pattern>(random.below(9)), form, random);
  }
  return 0;
}

}  // namespace

std::span<const Field<TensorDraw>> tensor_fields() {
  return kTensorFields;
}

std::span<const DType> float_dtypes() {
  return kDtypes;
}

DType dtype_of(const TensorDraw& draw) {
  return kDtypes.at(static_cast<std::size_t>(draw.dtype));
}

std::vector<std::byte> make_tensor(const TensorDraw& draw) {
  const DType dtype = dtype_of(draw);
  const Form form = form_of(dtype);
  const auto size = static_cast<std::size_t>(bytes(dtype));
  Random random(static_cast<std::uint64_t>(draw.seed));
  std::vector<std::byte> out(static_cast<std::size_t>(draw.elements) * size);
  for (std::size_t i = 0; i < out.size(); i += size) {
    const std::uint64_t bits = element(static_cast<Pattern>(draw.pattern), form, random);
    std::memcpy(out.data() + i, &bits, size);  // little-endian
  }
  return out;
}

Pattern pattern_of(std::uint64_t bits, DType dtype) {
  const Form form = form_of(dtype);
  const std::uint64_t magnitude = bits & (form.sign() - 1);
  if (bits == form.one()) {
    return Pattern::One;
  }
  if (magnitude == 0) {
    return Pattern::Zeros;
  }
  if (magnitude <= form.mantissa_mask()) {
    return Pattern::Subnormal;
  }
  if (magnitude == form.infinity()) {
    return Pattern::Infinite;
  }
  if (magnitude > form.infinity()) {
    return (bits & form.quiet()) != 0 ? Pattern::QuietNan : Pattern::SignalNan;
  }
  if (magnitude == form.infinity() - 1) {
    return Pattern::Largest;
  }
  const std::uint64_t distance =
      magnitude > form.one() ? magnitude - form.one() : form.one() - magnitude;
  return distance <= static_cast<std::uint64_t>(kUlpsMax) ? Pattern::NearOne : Pattern::Noise;
}

}  // namespace bv::generators
