#include "tests/oracles/forward/planted.hpp"

#include <algorithm>
#include <filesystem>

#include "tests/oracles/forward/golden.hpp"

namespace bv::oracle::forward {

std::string stored_layout(const std::string& name) {
  return std::filesystem::exists(golden::root() + "megatron/" + name + "/tp2.json") ? "tp2"
                                                                                    : "tp2_ep2";
}

std::int64_t row_size(const Tensor& tensor) {
  return static_cast<std::int64_t>(tensor.values.size()) / tensor.shape[0];
}

Tensor reordered(const Tensor& tensor, const std::vector<std::int64_t>& order) {
  Tensor out = tensor;
  const std::int64_t width = row_size(tensor);
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::copy_n(tensor.values.begin() + order[i] * width, width,
                out.values.begin() + static_cast<std::int64_t>(i) * width);
  }
  return out;
}

std::vector<std::int64_t> counted(std::int64_t from, std::int64_t count) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(from + i);
  return out;
}

void append(std::vector<std::int64_t>& order, const std::vector<std::int64_t>& more) {
  order.insert(order.end(), more.begin(), more.end());
}

bool has(const std::string& name, std::string_view part) {
  return name.find(part) != std::string::npos;
}

void for_each(Ranks& ranks, const std::function<void(const std::string&, Tensor&)>& change) {
  for (RankTensors& rank : ranks) {
    for (auto& [name, tensor] : rank.tensors) change(name, tensor);
  }
}

}  // namespace bv::oracle::forward
