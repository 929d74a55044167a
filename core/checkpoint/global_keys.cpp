#include "core/checkpoint/global_keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/global_shard.hpp"

namespace bv::checkpoint {
namespace {

/// "decoder.layers.", "3", "mlp.linear_fc1.weight"; no block for a parameter outside of layers.
struct InLayer {
  std::string block;
  std::string number;
  std::string rest;
};

std::optional<InLayer> in_layer(const std::string& key) {
  constexpr std::string_view kLayers = "layers.";
  const std::size_t at = key.find(kLayers);
  if (at == std::string::npos) {
    return std::nullopt;
  }
  const std::size_t begin = at + kLayers.size();
  const std::size_t end = key.find('.', begin);
  const bool is_number =
      end != std::string::npos && end > begin && key.find_first_not_of("0123456789", begin) == end;
  return is_number ? std::optional(InLayer{key.substr(0, begin), key.substr(begin, end - begin),
                                           key.substr(end + 1)})
                   : std::nullopt;
}

/// A parameter and its place as if no layers were stacked.
struct Plain {
  const plan::Target* target = nullptr;
  GlobalPlace place;
  Shape shape;
};

/// Blocks whose layers hold the same parameters in the same shapes.
std::set<std::string> stacked_blocks(const std::vector<Plain>& all) {
  std::map<std::string, std::map<std::string, std::set<std::pair<std::string, Shape>>>> blocks;
  for (const Plain& one : all) {
    if (const auto layer = in_layer(one.place.key)) {
      Shape shape = one.place.index;  // the experts of a layer count, too
      shape.insert(shape.end(), one.shape.begin(), one.shape.end());
      blocks[layer->block][layer->number].emplace(layer->rest, std::move(shape));
    }
  }
  std::set<std::string> out;
  for (const auto& [block, layers] : blocks) {
    const auto& first = layers.begin()->second;
    const bool alike = std::all_of(layers.begin(), layers.end(),
                                   [&](const auto& layer) { return layer.second == first; });
    if (alike && !("." + block).ends_with(".mtp.layers.")) {
      out.insert(block);
    }
  }
  return out;
}

GlobalPlace stacked(GlobalPlace place, const std::set<std::string>& blocks) {
  const auto layer = in_layer(place.key);
  if (layer && blocks.contains(layer->block)) {
    place.key = layer->block + layer->rest;
    place.index.insert(place.index.begin(), std::stoll(layer->number));
  }
  return place;
}

/// A part of the rows of a parameter: under a key of its own when it has a suffix.
struct Part {
  std::string suffix;
  std::int64_t rows = 0;
};

/// Megatron-Core stores the parts of a fused projection of linear attention under their own names.
std::string suffix_of(std::string_view part) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kNames = {
      {{"q", ".query"},
       {"k", ".key"},
       {"v", ".value"},
       {"z", ".z"},
       {"b_", ".beta"},
       {"a_", ".alpha"}}};
  const auto* const found = std::find_if(kNames.begin(), kNames.end(),
                                         [&](const auto& one) { return one.first == part; });
  return found == kNames.end() ? "" : std::string(found->second);
}

/// The parts whose rows stand one after another in a parameter; none when it has no such parts.
std::vector<Part> parts_of(const layout::BoundRule& bound, const std::string& key) {
  const bool is_fused =
      key.find(".in_proj.") != std::string::npos || key.find(".conv1d.") != std::string::npos;
  const bool is_gated = key.find(".linear_fc1.") != std::string::npos;
  const auto& dims = bound.rule().targets[0].dims;
  if ((!is_fused && !is_gated) || dims.empty() || dims[0].product.size() != 1 ||
      dims[0].product[0].kind != layout::Factor::Kind::Sum) {
    return {};
  }
  std::vector<Part> out;
  for (const layout::Choice& choice : dims[0].product[0].choices) {
    Part part{is_fused ? suffix_of(choice.name) : "", 1};
    for (const layout::Factor& factor : choice.product) {
      if (factor.kind == layout::Factor::Kind::Sum || (is_fused && part.suffix.empty())) {
        return {};
      }
      part.rows *= factor.kind == layout::Factor::Kind::Axis ? bound.size(factor.axis) : 1;
    }
    out.push_back(std::move(part));
  }
  return out;
}

Shape joined(const Shape& index, const Shape& rest) {
  Shape out = index;
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

/// The chunks of one parameter.
std::vector<KeyedChunk> chunks_of(const GlobalPlace& place, const Shape& shape,
                                  const std::vector<Part>& parts) {
  const Shape ones(place.index.size(), 1);
  const ElementOffset all(element_count(shape).value());
  std::int64_t rows = 0;
  for (const Part& part : parts) {
    rows += part.rows;
  }
  if (parts.empty() || shape.empty() || rows != shape[0]) {
    return {{place.key, joined(place.index, Shape(shape.size(), 0)), joined(ones, shape), {}, all}};
  }
  std::vector<KeyedChunk> out;
  const std::int64_t row = rows == 0 ? 0 : all.value / rows;
  std::int64_t at = 0;
  for (const Part& part : parts) {
    Shape extent = shape;
    extent[0] = part.rows;
    Shape origin(shape.size(), 0);
    origin[0] = part.suffix.empty() ? at : 0;
    out.push_back({place.key + part.suffix, joined(place.index, origin), joined(ones, extent),
                   ElementOffset(at * row), ElementOffset((at + part.rows) * row)});
    at += part.rows;
  }
  return out;
}

/// Modules of TransformerEngine keep an extra state; embeddings, the output layer, routers,
/// convolutions and parameters without a module do not.
std::optional<std::string> module_with_state(const std::string& key, bool norms) {
  const std::size_t dot = key.rfind('.');
  const std::string module = dot == std::string::npos ? "" : key.substr(0, dot);
  const std::string name = module.substr(module.rfind('.') + 1);
  const bool has_state = name.starts_with("linear_") || (norms && name.ends_with("norm")) ||
                         name == "in_proj" || name == "out_proj" || name == "eh_proj";
  return has_state ? std::optional(module) : std::nullopt;
}

/// Grows `shape` so that the chunk is inside.
void cover(Shape& shape, const KeyedChunk& chunk) {
  shape.resize(chunk.origin.size(), 0);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    shape[i] = std::max(shape[i], chunk.origin[i] + chunk.extent[i]);
  }
}

/// "KEY/shard_3.1_8.2": which of how many, for the leading axes of the module's parameters.
std::vector<std::string> state_keys(const std::map<std::string, std::set<Shape>>& indices) {
  std::set<std::string> out;
  for (const auto& [module, all] : indices) {
    Shape sizes(all.begin()->size(), 0);
    for (const Shape& index : all) {
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        sizes[i] = std::max(sizes[i], index[i] + 1);
      }
    }
    for (const Shape& index : all) {
      out.insert(index.empty() ? fmt::format("{}._extra_state/shard_0_1", module)
                               : fmt::format("{}._extra_state/shard_{}_{}", module,
                                             fmt::join(index, "."), fmt::join(sizes, ".")));
    }
  }
  return {out.begin(), out.end()};
}

}  // namespace

GlobalKeys global_keys(const plan::Plan& plan) {
  const StoredNames names(plan);
  std::vector<Plain> all;
  for (const plan::ShardFile& file : plan.files()) {
    for (const plan::Target& target : file.targets) {
      if (!target.copy) {
        const model::Mapping& mapping = plan.model().mappings[target.mapping];
        all.push_back({&target, global_place(names.of(target.global_name)),
                       plan.bound(mapping).target_shapes()[0]});
      }
    }
  }
  const std::set<std::string> blocks = stacked_blocks(all);
  GlobalKeys out;
  std::map<std::string, std::set<Shape>> states;
  for (const Plain& one : all) {
    const GlobalPlace place = stacked(one.place, blocks);
    const model::Mapping& mapping = plan.model().mappings[one.target->mapping];
    KeyedTarget keyed{one.target,
                      chunks_of(place, one.shape, parts_of(plan.bound(mapping), place.key))};
    for (const KeyedChunk& chunk : keyed.chunks) {
      cover(out.shapes[chunk.key], chunk);
    }
    const GlobalPlace own = stacked(global_place(one.target->global_name), blocks);
    if (const auto module = module_with_state(own.key, names.norms_have_states())) {
      states[*module].insert(own.index);
    }
    out.targets.push_back(std::move(keyed));
  }
  out.extra_states = state_keys(states);
  return out;
}

}  // namespace bv::checkpoint
