#include "core/convert/key_dtypes.hpp"

#include <fmt/format.h>

#include <map>
#include <set>

#include "core/base/text.hpp"

namespace bv::convert {
namespace {

using TypesOfKeys = std::map<std::string, std::set<DType>, std::less<>>;

/// The types of the keys, and `types` made wide enough: a parameter whose parts have keys of their
/// own carries the type of one key to the others.
std::map<std::string, DType, std::less<>> spread(const checkpoint::GlobalKeys& keys,
                                                 std::vector<DType>& types) {
  std::map<std::string, DType, std::less<>> widest;
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < types.size(); ++i) {
      for (const checkpoint::KeyedChunk& chunk : keys.targets[i].chunks) {
        DType& of_key = widest.emplace(chunk.key, types[i]).first->second;
        const DType wide = plan::widest_of(of_key, types[i]);
        changed = changed || wide != of_key || wide != types[i];
        of_key = wide;
        types[i] = wide;
      }
    }
  }
  return widest;
}

}  // namespace

KeyDtypes key_dtypes(const checkpoint::HfModel& source, const plan::Plan& plan,
                     const plan::DtypePolicy& policy, const checkpoint::GlobalKeys& keys) {
  KeyDtypes out;
  TypesOfKeys found;
  for (const checkpoint::KeyedTarget& keyed : keys.targets) {
    const model::Mapping& mapping = plan.model().mappings[keyed.target->mapping];
    out.types.push_back(
        plan::target_dtype(*mapping.rule, plan::dtypes_of(source.headers, mapping), policy));
    for (const checkpoint::KeyedChunk& chunk : keyed.chunks) {
      found[chunk.key].insert(out.types.back());
    }
  }
  const auto stored = spread(keys, out.types);
  for (const auto& [key, all] : found) {
    if (all.size() > 1) {
      std::vector<std::string> names;
      for (const DType one : all) {
        names.emplace_back(name(one));
      }
      out.notes.push_back(
          fmt::format("{} is {}: one tensor holds the layers and experts of a parameter, and in HF "
                      "they are {}; no value changes",
                      key, name(stored.find(key)->second), join(names, " and ")));
    }
  }
  return out;
}

}  // namespace bv::convert
