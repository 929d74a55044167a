#include "properties/claims/placed_adapter.hpp"

#include <algorithm>

#include "properties/claims/adapter_verdicts.hpp"

namespace bv::claims {

Result<std::unique_ptr<PlacedAdapter>> place_adapter(const AdapterSubject& subject,
                                                     const parallel::Layout& layout) {
  BV_TRY(plan, plan::Plan::make(subject.base->model, *subject.kinds, layout));
  auto out = std::make_unique<PlacedAdapter>(PlacedAdapter{std::move(plan), nullptr, {}});
  BV_TRY(sites, lora::SitePlan::make(out->plan, *subject.kinds));
  out->sites = std::make_unique<lora::SitePlan>(std::move(sites));
  lora::ToMegatronOptions options;
  auto files = lora::plan_to_megatron(*subject.adapter, *out->sites, options);
  if (!files && files.error().code == Code::ScaleWrong) {
    options.canonical = true;
    files = lora::plan_to_megatron(*subject.adapter, *out->sites, options);
  }
  if (!files) {
    return std::move(files).error();
  }
  out->files = std::move(*files);
  out->canonical = options.canonical;
  return out;
}

std::int64_t factors_of(const lora::MegatronAdapterFiles& files) {
  std::int64_t out = 0;
  for (const convert::OutputFile& file : files.files) {
    out += static_cast<std::int64_t>(file.tensors.size());
  }
  return out;
}

Verdict not_placed(const AdapterSubject& subject, std::string_view claim, const Error& error) {
  return of_error(claim, error, std::max<std::int64_t>(std::ssize(subject.adapter->pairs), 1));
}

}  // namespace bv::claims
