#include "core/base/dtype.hpp"

#include <array>

#include "core/base/assert.hpp"

namespace bv {
namespace {

struct DTypeInfo {
  std::string_view name;
  int bits;
  bool is_float;
};

constexpr std::array<DTypeInfo, 22> kInfo = {{
    {"BOOL", 8, false},   {"F4", 4, true},          {"F6_E2M3", 6, true},     {"F6_E3M2", 6, true},
    {"U8", 8, false},     {"I8", 8, false},         {"F8_E5M2", 8, true},     {"F8_E4M3", 8, true},
    {"F8_E8M0", 8, true}, {"F8_E4M3FNUZ", 8, true}, {"F8_E5M2FNUZ", 8, true}, {"I16", 16, false},
    {"U16", 16, false},   {"F16", 16, true},        {"BF16", 16, true},       {"I32", 32, false},
    {"U32", 32, false},   {"F32", 32, true},        {"C64", 64, true},        {"F64", 64, true},
    {"I64", 64, false},   {"U64", 64, false},
}};

const DTypeInfo& entry(DType dtype) {
  return kInfo[static_cast<std::size_t>(dtype)];
}

}  // namespace

int bits(DType dtype) {
  return entry(dtype).bits;
}

std::int64_t bytes(DType dtype) {
  BV_ASSERT(entry(dtype).bits % 8 == 0);
  return entry(dtype).bits / 8;
}

std::string_view name(DType dtype) {
  return entry(dtype).name;
}

std::optional<DType> dtype_from_name(std::string_view wanted) {
  for (std::size_t i = 0; i < kInfo.size(); ++i) {
    if (kInfo[i].name == wanted) {
      return static_cast<DType>(i);
    }
  }
  return std::nullopt;
}

bool is_float(DType dtype) {
  return entry(dtype).is_float;
}

}  // namespace bv
