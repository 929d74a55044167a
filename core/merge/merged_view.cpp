#include "core/merge/merged_view.hpp"

#include "core/io/whole_tensor.hpp"
#include "core/merge/merged_elements.hpp"

namespace bv::lora {
namespace {

const io::TensorStore* store_of(const Adapter& adapter) {
  for (const auto& tensor : adapter.tensors) {
    if (tensor->store != nullptr) {
      return tensor->store;
    }
  }
  return nullptr;
}

}  // namespace

checkpoint::Additions merged_additions(const checkpoint::HfModel& base, const MergePlan& plan) {
  checkpoint::Additions out;
  out.members = merged_members(base, plan);
  for (const Untied& one : plan.untied) {
    if (one.is_new()) {
      TensorSpec spec = base.headers.find(one.from)->second;
      spec.name = one.made;
      out.tensors.push_back(std::move(spec));
    }
  }
  return out;
}

Status merge_when_read(const Adapter& adapter, const MergePlan& plan, int jobs,
                       checkpoint::HfModel& model, move::Merger* device) {
  io::Checkpoint& checkpoint = *model.checkpoint;
  const std::size_t each = device == nullptr ? kRestingBytes : kDeviceRestingBytes;
  const auto states = std::make_shared<MergeStates>(each * static_cast<std::size_t>(jobs));
  const io::TensorStore* store = store_of(adapter);
  const auto add = [&](const std::string& stored, const std::string& name,
                       const TensorEdits& edits) -> Status {
    const io::StoredTensor& base = checkpoint.tensors().find(stored)->second;
    TensorSpec spec = base.spec;
    spec.name = name;
    BV_TRY(whole, io::WholeTensor::read(checkpoint, base));
    BV_TRY(merge, TensorMerge::make(spec, edits, {best_merge_isa(), device}, whole.bytes()));
    checkpoint.add_made(
        {std::move(spec), stored,
         std::make_unique<MergedElements>(
             std::move(merge), MergedElements::Base{checkpoint.bytes(base), checkpoint.maker(base)},
             states, store)});
    return Done{};
  };
  std::map<std::string, std::string> made;  // tensors that the base does not store
  for (const Untied& one : plan.untied) {
    if (!one.is_new()) {
      continue;
    }
    made[one.made] = one.from;
    if (!plan.edits.contains(one.made)) {
      BV_CHECK(add(one.from, one.made, {}));
    }
  }
  for (const auto& [tensor, edits] : plan.edits) {
    const auto from = made.find(tensor);
    BV_CHECK(add(from == made.end() ? tensor : from->second, tensor, edits));
  }
  return Done{};
}

}  // namespace bv::lora
