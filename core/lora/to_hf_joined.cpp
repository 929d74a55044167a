// Pairs of a layer whose HF tensors are one linear layer in transformers' class.

#include <fmt/format.h>

#include "core/lora/class_names.hpp"
#include "core/lora/hf_planner.hpp"

namespace bv::lora {

std::string HfPlanner::joined_in_class(const Site& site) const {
  const model::Mapping& mapping = class_mapping(site, -1);
  if (site.expert || mapping.hf.size() < 2) {
    return "";
  }
  std::string out;
  for (const std::string& name : mapping.hf) {
    const std::string module(module_of(name));
    std::string joined = joined_module(base_.model.family.get(), module);
    if (joined == module || (!out.empty() && joined != out)) {
      return "";
    }
    out = std::move(joined);
  }
  return out;
}

Status HfPlanner::add_joined(const AdapterModule& module, const Site& site,
                             const std::string& path) {
  if (!module.key.empty() || module.shards.front().magnitude != nullptr) {
    return fail(Code::AdapterNoForm,
                fmt::format("{} is one linear layer of the class, {}", path, name_of(module)))
        .pair(module.key.empty() ? "magnitudes of its parts" : "a pair for one of its parts",
              "one pair for the layer")
        .advise("merge the adapter into its base, and convert the merged model");
  }
  Gathered a{adapter_key(path + ".weight", KeyKind::A), {module.rank, site.in}, {}, {}};
  Gathered b{adapter_key(path + ".weight", KeyKind::B), {site.out, module.rank}, {}, {}};
  Gathered once = a;  // every part of the layer has the same A
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < site.rows->source_shapes().size(); ++i) {
    Block block = block_of(site, {static_cast<std::int64_t>(i), module.rank, 0});
    block.a = {0, 0, site.in, 1};
    block.b = {0, rows * module.rank, module.rank, 1};
    gather(module, site, block, -1, i == 0 ? a : once, b);
    rows += block.rows;
  }
  tensors_.push_back(std::move(a));
  tensors_.push_back(std::move(b));
  targets_.push_back({path, false, module.rank, module.alpha});
  return Done{};
}

}  // namespace bv::lora
