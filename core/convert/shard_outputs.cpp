#include "core/convert/shard_outputs.hpp"

namespace bv::convert {
namespace {

std::vector<checkpoint::SourceTensor> sources_of(const checkpoint::HfModel& source,
                                                 const model::Mapping& mapping) {
  std::vector<checkpoint::SourceTensor> out;
  for (const std::string& hf : mapping.hf) {
    out.push_back({&*source.checkpoint, source.checkpoint->find(hf)});
  }
  return out;
}

}  // namespace

OutputTensor output_of(const checkpoint::HfModel& source, const plan::Plan& plan,
                       const plan::Target& target, const plan::DtypePolicy& policy) {
  const model::Mapping& mapping = plan.model().mappings[target.mapping];
  OutputTensor out;
  out.spec.name = target.name;
  out.spec.shape = plan.bound(mapping).target_shapes()[0];
  out.spec.dtype =
      plan::target_dtype(*mapping.rule, plan::dtypes_of(source.headers, mapping), policy);
  out.sources = sources_of(source, mapping);
  out.boxes = [&plan, &target] { return plan.shard(target).boxes; };
  out.add = mapping.rule->value.added_on_import();
  return out;
}

}  // namespace bv::convert
