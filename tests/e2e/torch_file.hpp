#pragma once
// Files as torch.save writes them, made of tensors.

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/base/arith.hpp"
#include "tests/core/pickle/small_archive.hpp"
#include "tests/support/checkpoint_edit.hpp"

namespace bv::e2e {

/// How a file keeps tensors: row by row, or turned, the first axis innermost.
enum class Kept { RowByRow, Turned };

inline Shape strides_of(const Shape& shape, Kept kept) {
  Shape strides(shape.size(), 1);
  for (std::size_t i = 1; i < shape.size(); ++i) {
    const std::size_t at = kept == Kept::Turned ? i : shape.size() - 1 - i;
    const std::size_t before = kept == Kept::Turned ? i - 1 : at + 1;
    strides[at] = strides[before] * shape[before];
  }
  return strides;
}

/// The bytes of a tensor as the file keeps them.
inline std::string kept_bytes(const support::EditedTensor& tensor, Kept kept) {
  std::string out(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  if (kept == Kept::RowByRow) {
    return out;
  }
  const auto size = static_cast<std::size_t>(bytes(tensor.dtype));
  const Shape strides = strides_of(tensor.shape, kept);
  for (std::size_t i = 0; i * size < out.size(); ++i) {
    auto left = static_cast<std::int64_t>(i);
    std::int64_t at = 0;
    for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
      at += left % tensor.shape[axis] * strides[axis];
      left /= tensor.shape[axis];
    }
    std::memcpy(&out[static_cast<std::size_t>(at) * size], &tensor.bytes[i * size], size);
  }
  return out;
}

/// The operations that make one tensor of the storage `key`.
inline std::string tensor_operations(const support::EditedTensor& tensor, const std::string& key,
                                     Kept kept) {
  const std::string type = tensor.dtype == DType::BF16 ? "BFloat16Storage" : "FloatStorage";
  const Shape strides = strides_of(tensor.shape, kept);
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickle::pickled("storage") + "ctorch\n" + type +
         "\n" + pickle::pickled(key) + pickle::pickled("cpu") +
         pickle::pickled(element_count(tensor.shape).value()) + "tQ" + pickle::pickled(0) +
         pickle::pickled_tuple(tensor.shape) + pickle::pickled_tuple(strides) + "\x89" +
         "ccollections\nOrderedDict\n)RtR";
}

using Tensors = std::map<std::string, support::EditedTensor>;

/// A file of F32 and BF16 tensors in OrderedDicts; `root` makes the saved object of them.
template <class Root>
std::string torch_file(const std::string& name, const std::vector<Tensors>& dicts, Root root,
                       Kept kept = Kept::RowByRow) {
  std::vector<std::string> weights;
  pickle::SmallArchive archive;
  archive.records.emplace_back();
  int storage = 0;
  for (const Tensors& dict : dicts) {
    std::string& text = weights.emplace_back("ccollections\nOrderedDict\n)R(");
    for (const auto& [tensor, value] : dict) {
      const std::string key = std::to_string(storage++);
      text += pickle::pickled(tensor) + tensor_operations(value, key, kept);
      archive.records.push_back({name + "/data/" + key, kept_bytes(value, kept)});
    }
    text += "u";
  }
  archive.records[0] = {name + "/data.pkl", "\x80\x02" + root(weights) + "."};
  archive.records.push_back({name + "/version", "3\n"});
  return archive.bytes();
}

/// A state dict, as save_pretrained(safe_serialization=False) writes it.
inline std::string torch_file(const std::string& name, const Tensors& tensors,
                              Kept kept = Kept::RowByRow) {
  return torch_file(
      name, {tensors}, [](const auto& weights) { return weights.front(); }, kept);
}

}  // namespace bv::e2e
