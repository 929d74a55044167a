#pragma once
// An adapter of rank 1 on many tensors, and the rows that the ranks of a server have of it.

#include <set>

#include "core/lora/adapter_keys.hpp"
#include "core/serve/serve.hpp"
#include "tests/core/lora/golden.hpp"

namespace bv::lora::golden {

/// tensor -> rank -> rows
using ServedRows = std::map<std::string, std::vector<std::set<std::int64_t>>>;

/// One pair of rank 1 on each of these tensors, but for stacks of experts.
inline Result<Adapter> adapter_on(const std::set<std::string>& linear,
                                  const checkpoint::HfModel& base) {
  static const std::vector<std::byte> zeros(std::size_t{4} << 16);
  AdapterConfig config;
  config.r = 1;
  config.lora_alpha = 1;
  std::vector<AdapterTensor> tensors;
  for (const std::string& name : linear) {
    const Shape& shape = base.headers.find(name)->second.shape;
    if (shape.size() != 2 || !name.ends_with(".weight")) {
      continue;
    }
    config.target_modules.names.emplace_back(module_of(name));
    for (const auto& [kind, factor] :
         {std::pair{KeyKind::A, Shape{1, shape[1]}}, std::pair{KeyKind::B, Shape{shape[0], 1}}}) {
      AdapterTensor one;
      one.stored.spec = {adapter_key(name, kind), DType::F32, factor};
      one.bytes = std::span(zeros).first(static_cast<std::size_t>(factor[0] * factor[1]) * 4);
      tensors.push_back(std::move(one));
    }
  }
  return fit_adapter(std::move(config), std::move(tensors), base, golden::kinds_of_build(),
                     "adapter");
}

inline ServedRows rows_served(const std::vector<ServedModule>& modules) {
  ServedRows out;
  for (const ServedModule& module : modules) {
    for (std::size_t t = 0; t < module.ranks.size(); ++t) {
      for (const SliceShard& shard : module.ranks[t]) {
        auto& ranks = out[module.names[shard.member.value_or(0)]];
        ranks.resize(module.ranks.size());
        for (std::int64_t row = shard.b_from_rows.begin; row < shard.b_from_rows.end; ++row) {
          ranks[t].insert(row);
        }
      }
    }
  }
  return out;
}

}  // namespace bv::lora::golden
