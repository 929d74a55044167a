#include "core/plan/dtype_policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "core/base/text.hpp"
#include "core/kinds/values.hpp"

namespace bv::plan {
namespace {

/// What --dtype names.
constexpr std::array<std::pair<std::string_view, std::optional<DType>>, 4> kPolicies = {
    {{"preserve", std::nullopt},
     {"float32", DType::F32},
     {"bfloat16", DType::BF16},
     {"float16", DType::F16}}};

}  // namespace

Result<DtypePolicy> dtype_policy(std::string_view text) {
  for (const auto& [word, params] : kPolicies) {
    if (text == word) {
      return DtypePolicy{params};
    }
  }
  return fail(Code::BadValue, fmt::format("--dtype {} is not known", text))
      .pair(std::string(text), "preserve, float32, bfloat16 or float16")
      .advise("write --dtype preserve to keep every bit");
}

std::string name(const DtypePolicy& policy) {
  const auto* found = std::find_if(kPolicies.begin(), kPolicies.end(),
                                   [&](const auto& row) { return row.second == policy.params; });
  BV_ASSERT(found != kPolicies.end());  // dtype_policy makes no other
  return std::string(found->first);
}

DType target_dtype(const family::Rule& rule, std::span<const DType> hf, const DtypePolicy& policy) {
  const bool computable = std::all_of(hf.begin(), hf.end(), kinds::is_computable);
  if (policy.params && computable) {
    return rule.keep_float32 ? DType::F32 : *policy.params;
  }
  if (!computable) {
    return hf.front();  // check_dtypes refuses what cannot be computed with
  }
  return std::accumulate(hf.begin(), hf.end(), hf.front(), widest_of);
}

DType widest_of(DType one, DType other) {
  if (one == other) {
    return one;
  }
  return one == DType::F64 || other == DType::F64 ? DType::F64 : DType::F32;
}

std::vector<DType> dtypes_of(const Headers& headers, const model::Mapping& mapping) {
  std::vector<DType> out;
  for (const std::string& hf : mapping.hf) {
    out.push_back(headers.find(hf)->second.dtype);
  }
  return out;
}

bool is_parameter_dtype(DType dtype) {
  return kinds::is_computable(dtype);
}

bool is_buffer_dtype(const family::Rule& rule, DType dtype) {
  return rule.as_in_hf && dtype == DType::I64;
}

bool has_odd_dtype(const Headers& headers, const model::Mapping& mapping) {
  return std::any_of(mapping.hf.begin(), mapping.hf.end(), [&](const std::string& hf) {
    const auto header = headers.find(hf);
    return header != headers.end() && !is_parameter_dtype(header->second.dtype) &&
           !is_buffer_dtype(*mapping.rule, header->second.dtype);
  });
}

Status check_dtypes(const model::Model& model, const Headers& headers) {
  if (std::all_of(headers.begin(), headers.end(),
                  [](const auto& header) { return is_parameter_dtype(header.second.dtype); })) {
    return Done{};
  }
  constexpr std::size_t kShown = 6;
  std::map<DType, std::int64_t> counts;
  std::vector<std::string> shown;
  std::int64_t all = 0;
  std::int64_t odd = 0;
  for (const model::Mapping& mapping : model.mappings) {
    for (const std::string& hf : mapping.hf) {
      const auto header = headers.find(hf);
      if (header == headers.end()) {
        continue;
      }
      ++all;
      if (is_parameter_dtype(header->second.dtype) ||
          is_buffer_dtype(*mapping.rule, header->second.dtype)) {
        continue;
      }
      ++counts[header->second.dtype];
      if (++odd <= static_cast<std::int64_t>(kShown)) {
        shown.push_back(fmt::format("{} {} {}", readable(hf), bv::name(header->second.dtype),
                                    shape_text(header->second.shape)));
      }
    }
  }
  if (odd == 0) {
    return Done{};
  }
  std::vector<std::string> parts;
  for (const auto& [dtype, count] : counts) {
    parts.push_back(fmt::format("{} {}", thousands(count), bv::name(dtype)));
  }
  Error out = fail(
      Code::DtypeUnsupported,
      fmt::format("{} of {} tensors {} a dtype that no Megatron parameter has: {}", thousands(odd),
                  thousands(all), odd == 1 ? "has" : "have", join(parts, ", ")));
  out.facts = std::move(shown);
  if (odd > static_cast<std::int64_t>(kShown)) {
    out.facts.push_back(
        fmt::format("and {} more", thousands(odd - static_cast<std::int64_t>(kShown))));
  }
  return std::move(out)
      .pair(join(parts, ", "), "F16, BF16, F32 or F64")
      .advise(
          "write these tensors again from the release that they came from (dequantised, when it is "
          "a quantised one); no --dtype casts them");
}

}  // namespace bv::plan
