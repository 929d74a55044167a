#pragma once
// One model on one layout, and what a rank does on both roads: every parameter made at once, and
// by collectives there and back.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "core/base/arith.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/comm/roads.hpp"
#include "core/kinds/values.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::comm {

using Held = std::map<std::string, TypedBytes>;  // by "file name"

inline std::span<const std::byte> stored(const checkpoint::HfModel& source, const std::string& hf) {
  return source.checkpoint->bytes(source.checkpoint->tensors().find(hf)->second);
}

/// A parameter made at once from the whole tensors.
inline TypedBytes direct(const checkpoint::HfModel& source, const plan::Plan& plan,
                         const plan::Target& target, const plan::DtypePolicy& policy) {
  const model::Mapping& mapping = plan.model().mappings[target.mapping];
  move::Recipe recipe;
  const layout::Shard shard = plan.shard(target);
  recipe.dtype =
      plan::target_dtype(*mapping.rule, plan::dtypes_of(source.headers, mapping), policy);
  recipe.elements = element_count(shard.shape).value();
  recipe.boxes = shard.boxes;
  recipe.add = mapping.rule->value.added_on_import();
  for (const std::string& hf : mapping.hf) {
    recipe.sources.push_back({stored(source, hf).data(), source.headers.at(hf).dtype});
  }
  TypedBytes out{recipe.dtype, shard.shape, {}};
  out.bytes.resize(static_cast<std::size_t>(recipe.elements * bytes(recipe.dtype)));
  move::TensorMaker maker(recipe);
  EXPECT_TRUE(maker.make(ElementOffset(0), ElementOffset(recipe.elements), out.bytes.data()));
  return out;
}

struct Case {
  const checkpoint::HfModel& source;
  const plan::Plan& plan;
  plan::DtypePolicy policy;
};

inline std::string key_of(const plan::ShardFile& file, const plan::Target& target) {
  return file.name + " " + target.name;
}

inline Status import_on(Link& link, const Case& one, Held& held) {
  return scatter_parameters(
      link, one.plan, one.source.headers, one.policy,
      [&](const std::string& hf) -> Result<std::span<const std::byte>> {
        return stored(one.source, hf);
      },
      [&](const plan::ShardFile& file, const plan::Target& target, TypedBytes made) -> Status {
        held[key_of(file, target)] = std::move(made);
        return Done{};
      });
}

/// What comes back of an HF tensor: its bytes, but for a norm that minus one and plus one round.
inline Bytes there_and_back(const Case& one, const std::string& hf) {
  const auto bytes = stored(one.source, hf);
  Bytes out(bytes.begin(), bytes.end());
  for (const model::Mapping& mapping : one.plan.model().mappings) {
    const double added = mapping.rule->value.added_on_import();
    if (added != 0 && std::find(mapping.hf.begin(), mapping.hf.end(), hf) != mapping.hf.end()) {
      const DType dtype = one.source.headers.at(hf).dtype;
      kinds::add_constant(out, dtype, added);
      kinds::add_constant(out, dtype, -added);
    }
  }
  return out;
}

inline Status export_on(Link& link, const Case& one, const Held& held, std::size_t& equal) {
  return gather_tensors(
      link, one.plan, one.source.headers, one.policy,
      [&](const plan::ShardFile& file, const plan::Target& target) -> Result<TypedBytes> {
        return held.at(key_of(file, target));
      },
      [&](const std::string& hf, TypedBytes made) -> Status {
        equal += made.bytes == there_and_back(one, hf) ? 1U : 0U;
        return Done{};
      });
}

}  // namespace bv::comm
