#include "core/plan/dtype_policy.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/kinds/values.hpp"

namespace bv::plan {

Result<DtypePolicy> dtype_policy(std::string_view text) {
  if (text == "preserve") {
    return DtypePolicy{};
  }
  if (text == "float32") {
    return DtypePolicy{DType::F32};
  }
  if (text == "bfloat16") {
    return DtypePolicy{DType::BF16};
  }
  if (text == "float16") {
    return DtypePolicy{DType::F16};
  }
  return fail(Code::BadValue, fmt::format("--dtype {} is not known", text))
      .pair(std::string(text), "preserve, float32, bfloat16 or float16")
      .advise("write --dtype preserve to keep every bit");
}

std::string name(const DtypePolicy& policy) {
  if (!policy.params) {
    return "preserve";
  }
  switch (*policy.params) {
    case DType::BF16:
      return "bfloat16";
    case DType::F16:
      return "float16";
    default:
      return "float32";
  }
}

DType target_dtype(const family::Rule& rule, std::span<const DType> hf, const DtypePolicy& policy) {
  const bool computable = std::all_of(hf.begin(), hf.end(), kinds::is_computable);
  if (policy.params && computable) {
    return rule.keep_float32 ? DType::F32 : *policy.params;
  }
  const bool uniform =
      std::all_of(hf.begin(), hf.end(), [&](DType one) { return one == hf.front(); });
  if (uniform || !computable) {
    return hf.front();
  }
  return std::find(hf.begin(), hf.end(), DType::F64) == hf.end() ? DType::F32 : DType::F64;
}

std::vector<DType> dtypes_of(const Headers& headers, const model::Mapping& mapping) {
  std::vector<DType> out;
  for (const std::string& hf : mapping.hf) {
    out.push_back(headers.find(hf)->second.dtype);
  }
  return out;
}

}  // namespace bv::plan
