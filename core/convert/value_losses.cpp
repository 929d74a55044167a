#include "core/convert/value_losses.hpp"

#include <algorithm>

#include "core/base/workers.hpp"
#include "core/checkpoint/source_tensor.hpp"

namespace bv::convert {
namespace {

constexpr std::int64_t kMadeAtOnce = std::int64_t{1} << 20;  // elements of a computed tensor

void add(const kinds::Exactness& part, kinds::Exactness& sum) {
  if (sum.inexact == 0 && part.inexact > 0) {
    sum.first_inexact = sum.elements + part.first_inexact;
    sum.first_wanted_bits = part.first_wanted_bits;
    sum.first_found_bits = part.first_found_bits;
  }
  sum.elements += part.elements;
  sum.inexact += part.inexact;
}

/// What the road does to one tensor; a computed one is never whole in memory.
Result<kinds::Exactness> trace(const checkpoint::SourceTensor& tensor, DType target, double added) {
  const DType dtype = tensor.spec->dtype;
  const io::Chunk chunk = tensor.store->chunks(*tensor.spec).front();
  if (chunk.made == nullptr) {
    const checkpoint::WholeTensor whole(tensor);
    return kinds::trace_values(whole.bytes(), dtype, target, added);
  }
  const std::int64_t granule = chunk.made->granule();
  const std::int64_t step = std::max<std::int64_t>(1, kMadeAtOnce / granule) * granule;
  kinds::Exactness out;
  std::vector<std::byte> made;
  for (std::int64_t begin = 0; begin < chunk.made->elements(); begin += step) {
    const std::int64_t end = std::min(begin + step, chunk.made->elements());
    made.resize(static_cast<std::size_t>((end - begin) * bytes(dtype)));
    BV_CHECK(chunk.made->make(begin, end, made.data()));
    add(kinds::trace_values(made, dtype, target, added), out);
  }
  return out;
}

}  // namespace

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
    BV_TRY(exactness, trace(stored, job.target, job.mapping->rule->value.added_on_import()));
    found[i] = {hf,
                source.model.megatron_name(*job.mapping, 0),
                job.mapping->rule,
                stored.spec->dtype,
                job.target,
                exactness};
    checkpoint::release({&stored, 1});
    return Done{};
  }));
  std::erase_if(found, [](const ValueLoss& one) { return one.exactness.inexact == 0; });
  return found;
}

}  // namespace bv::convert
