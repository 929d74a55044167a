#pragma once
// Files as torch.save writes them, made of tensors.

#include <map>
#include <string>
#include <vector>

#include "core/base/arith.hpp"
#include "tests/core/pickle/small_archive.hpp"
#include "tests/support/checkpoint_edit.hpp"

namespace bv::e2e {

/// The operations that make one tensor of the storage `key`.
inline std::string tensor_operations(const support::EditedTensor& tensor, const std::string& key) {
  const std::string type = tensor.dtype == DType::BF16 ? "BFloat16Storage" : "FloatStorage";
  Shape strides(tensor.shape.size(), 1);
  for (std::size_t i = strides.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * tensor.shape[i];
  }
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickle::pickled("storage") + "ctorch\n" + type +
         "\n" + pickle::pickled(key) + pickle::pickled("cpu") +
         pickle::pickled(element_count(tensor.shape).value()) + "tQ" + pickle::pickled(0) +
         pickle::pickled_tuple(tensor.shape) + pickle::pickled_tuple(strides) + "\x89" +
         "ccollections\nOrderedDict\n)RtR";
}

using Tensors = std::map<std::string, support::EditedTensor>;

/// A file of F32 and BF16 tensors in OrderedDicts; `root` makes the saved object of them.
template <class Root>
std::string torch_file(const std::string& name, const std::vector<Tensors>& dicts, Root root) {
  std::vector<std::string> weights;
  pickle::SmallArchive archive;
  archive.records.emplace_back();
  int storage = 0;
  for (const Tensors& dict : dicts) {
    std::string& text = weights.emplace_back("ccollections\nOrderedDict\n)R(");
    for (const auto& [tensor, value] : dict) {
      const std::string key = std::to_string(storage++);
      text += pickle::pickled(tensor) + tensor_operations(value, key);
      archive.records.push_back(
          {name + "/data/" + key,
           {reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size()}});
    }
    text += "u";
  }
  archive.records[0] = {name + "/data.pkl", "\x80\x02" + root(weights) + "."};
  archive.records.push_back({name + "/version", "3\n"});
  return archive.bytes();
}

/// A state dict, as save_pretrained(safe_serialization=False) writes it.
inline std::string torch_file(const std::string& name, const Tensors& tensors) {
  return torch_file(name, {tensors}, [](const auto& weights) { return weights.front(); });
}

}  // namespace bv::e2e
