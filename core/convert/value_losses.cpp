#include "core/convert/value_losses.hpp"

#include <algorithm>

#include "core/base/workers.hpp"
#include "core/checkpoint/source_tensor.hpp"

namespace bv::convert {
Result<std::vector<ValueLoss>> find_losses(const checkpoint::HfModel& source,
                                           const plan::DtypePolicy& policy, int jobs) {
  struct Job {
    const model::Mapping* mapping;
    std::size_t hf;
    DType target;
  };
  std::vector<Job> list;
  for (const model::Mapping& mapping : source.model.mappings) {
    if (plan::has_odd_dtype(source.headers, mapping)) {
      continue;
    }
    const auto dtypes = plan::dtypes_of(source.headers, mapping);
    const DType target = plan::target_dtype(*mapping.rule, dtypes, policy);
    for (std::size_t i = 0; i < dtypes.size(); ++i) {
      if (dtypes[i] != target || !mapping.rule->value.empty()) {
        list.push_back({&mapping, i, target});
      }
    }
  }
  std::vector<ValueLoss> found(list.size());
  BV_CHECK(for_each_parallel(list.size(), jobs, [&](std::size_t i) -> Status {
    const Job& job = list[i];
    const std::string& hf = job.mapping->hf[job.hf];
    const checkpoint::SourceTensor stored{&*source.checkpoint, source.checkpoint->find(hf)};
    const checkpoint::WholeTensor whole(stored);
    found[i] = {hf,
                source.model.megatron_name(*job.mapping, 0),
                job.mapping->rule,
                stored.spec->dtype,
                job.target,
                kinds::trace_values(whole.bytes(), stored.spec->dtype, job.target,
                                    job.mapping->rule->value.added_on_import())};
    checkpoint::release({&stored, 1});
    return Done{};
  }));
  std::erase_if(found, [](const ValueLoss& one) { return one.exactness.inexact == 0; });
  return found;
}

}  // namespace bv::convert
