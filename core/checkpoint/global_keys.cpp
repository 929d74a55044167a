#include "core/checkpoint/global_keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/global_shard.hpp"
#include "core/model/stored_as.hpp"

namespace bv::checkpoint {
namespace {

/// "decoder.layers.", "3", "mlp.linear_fc1.weight"; no block for a parameter outside of layers.
struct InLayer {
  std::string block;
  std::string number;
  std::string rest;
};

std::optional<InLayer> in_layer(const std::string& key) {
  for (const std::string_view module : stacked_modules()) {
    const std::size_t at = key.find(module);
    if (at == std::string::npos) {
      continue;
    }
    const std::size_t begin = at + module.size();
    const std::size_t end = std::min(key.find('.', begin), key.size());
    if (end < key.size() && number_in(std::string_view(key).substr(begin, end - begin))) {
      return InLayer{key.substr(0, begin), key.substr(begin, end - begin), key.substr(end + 1)};
    }
  }
  return std::nullopt;
}

/// A parameter and its place as if no layers were stacked.
struct Plain {
  const plan::Target* target = nullptr;
  StoredName name;
  GlobalPlace place;
  Shape shape;
  model::LayerKeys keys = model::LayerKeys::WhereAlike;  // of its block
};

/// "decoder." of "decoder.layers."
std::string owner_of(const std::string& block) {
  return block.substr(0, block.rfind('.', block.size() - 2) + 1);
}

/// Stacks of hybrid layers, "decoder.": they call their last norm otherwise than a block of
/// transformer layers. Source: megatron-core 0.19.2 models/hybrid/hybrid_block.py.
std::set<std::string> hybrid_stacks(const std::vector<Plain>& all) {
  constexpr std::string_view kNorm = "decoder.final_norm.weight";
  std::set<std::string> out;
  for (const Plain& one : all) {
    const std::string& key = one.place.key;
    if (key == kNorm || key.ends_with("." + std::string(kNorm))) {
      out.insert(key.substr(0, key.rfind("final_norm.")));
    }
  }
  return out;
}

/// Parameters of one layer by their names in it, with their shapes; the experts count, too.
using Layer = std::set<std::pair<std::string, Shape>>;

/// Of a TransformerBlock of Megatron, by its owner: "language_model.decoder.". Other modules with
/// numbered layers are those of transformers.
bool is_of_block(const std::string& owner) {
  return ("." + owner).ends_with(".decoder.");
}

/// The layers of a block by their numbers, for themselves where they are stacked by kind.
using Block = std::map<std::string, Layer>;

/// The layers of a block that share keys whatever they hold are not alike.
Error unlike(const std::string& block, const Block& layers) {
  Layer every;
  for (const auto& [number, layer] : layers) {
    every.insert(layer.begin(), layer.end());
  }
  std::string lacks;
  for (const auto& [number, layer] : layers) {
    for (const auto& one : every) {
      if (lacks.empty() && !layer.contains(one)) {
        lacks = fmt::format("{}{}.{} [{}]", block, number, one.first, fmt::join(one.second, ", "));
      }
    }
  }
  return fail(Code::MegatronParamUnfilled,
              fmt::format("the layers of {} share the keys of a torch_dist checkpoint, and not all "
                          "of them hold the same parameters",
                          block))
      .pair(fmt::format("no {}", lacks), "the same parameters in every layer")
      .advise("convert with --to megatron, which has a file for each rank");
}

/// Blocks whose layers hold the same parameters in the same shapes, but for those that never share
/// a key. What one module numbers is stacked together or not at all.
Result<std::set<std::string>> stacked_blocks(const std::vector<Plain>& all) {
  std::map<std::pair<std::string, std::string>, Block> blocks;  // by block and by kind of layer
  std::set<std::string> apart = hybrid_stacks(all);
  std::set<std::string> shared;
  for (const Plain& one : all) {
    if (const auto layer = in_layer(one.place.key)) {
      Shape shape = one.place.index;
      shape.insert(shape.end(), one.shape.begin(), one.shape.end());
      blocks[{layer->block, one.name.kind}][layer->number].emplace(layer->rest, std::move(shape));
      if (one.keys == model::LayerKeys::Own || one.name.single) {
        apart.insert(owner_of(layer->block));
      } else if (one.keys == model::LayerKeys::Shared) {
        shared.insert(owner_of(layer->block));
      }
    }
  }
  for (const auto& [kind_of_block, layers] : blocks) {
    const std::string& block = kind_of_block.first;
    const Layer& first = layers.begin()->second;
    const bool alike = std::all_of(layers.begin(), layers.end(),
                                   [&](const auto& layer) { return layer.second == first; });
    if (!alike && shared.contains(owner_of(block))) {
      return unlike(block, layers);
    }
    if (!alike || !is_of_block(owner_of(block))) {
      apart.insert(owner_of(block));
    }
  }
  std::set<std::string> out;
  for (const auto& [kind_of_block, layers] : blocks) {
    if (!apart.contains(owner_of(kind_of_block.first))) {
      out.insert(kind_of_block.first);
    }
  }
  return out;
}

GlobalPlace stacked(const StoredName& name, const std::set<std::string>& blocks) {
  GlobalPlace place = global_place(name);
  const auto layer = in_layer(place.key);
  if (layer && blocks.contains(layer->block)) {
    place.key = layer->block + layer->rest;
    place.index.insert(place.index.begin(),
                       name.number < 0 ? std::stoll(layer->number) : name.number);
  }
  return place;
}

/// A part of the rows of a parameter: under a key of its own when it has a suffix.
struct Part {
  std::string suffix;
  std::int64_t rows = 0;
};

/// The rows of a choice; nullopt where they are made of choices themselves.
std::optional<std::int64_t> rows_of(const layout::BoundRule& bound, const layout::Choice& choice) {
  std::int64_t rows = 1;
  for (const layout::Factor& factor : choice.product) {
    if (factor.kind == layout::Factor::Kind::Sum) {
      return std::nullopt;
    }
    rows *= factor.kind == layout::Factor::Kind::Axis ? bound.size(factor.axis) : 1;
  }
  return rows;
}

/// The way whose parts are the choices of a rule, in their order.
const StoredApart* way_of(const std::vector<const StoredApart*>& ways,
                          const std::vector<layout::Choice>& choices) {
  const auto found = std::find_if(ways.begin(), ways.end(), [&](const StoredApart* way) {
    return std::equal(way->parts.begin(), way->parts.end(), choices.begin(), choices.end(),
                      [](const StoredPart& part, const layout::Choice& choice) {
                        return part.rows == choice.name;
                      });
  });
  return found == ways.end() ? nullptr : *found;
}

/// The parts whose rows stand one after another in a parameter; none when it has no such parts.
/// Errors: RulesInvalid for rows that Megatron-Core stores apart, by other names than the rule's.
Result<std::vector<Part>> parts_of(const layout::BoundRule& bound, const std::string& key) {
  const std::vector<const StoredApart*> ways = ways_apart(key);
  const auto& dims = bound.rule().targets[0].dims;
  if (ways.empty() || dims.empty() || dims[0].product.size() != 1 ||
      dims[0].product[0].kind != layout::Factor::Kind::Sum) {
    return std::vector<Part>{};
  }
  const std::vector<layout::Choice>& choices = dims[0].product[0].choices;
  const StoredApart* const way = way_of(ways, choices);
  std::vector<Part> out;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const auto rows = rows_of(bound, choices[i]);
    if (way == nullptr || !rows) {
      if (!ways.front()->always) {
        return std::vector<Part>{};
      }
      return fail(Code::RulesInvalid,
                  fmt::format("Megatron-Core stores the rows of {} apart, and the rule of this "
                              "parameter fuses other ones",
                              key))
          .pair(fmt::format("{}", choices[i].name),
                "the parts of a gated delta net or of a Mamba "
                "mixer, in their order")
          .advise("take the rule that the module needs, or convert with --to megatron");
    }
    out.push_back({way->always ? std::string(way->parts[i].suffix) : "", *rows});
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
/// convolutions, the norm of mamba_ssm and parameters without a module do not.
std::optional<std::string> module_with_state(const std::string& key, bool norms) {
  const std::size_t dot = key.rfind('.');
  const std::string module = dot == std::string::npos ? "" : key.substr(0, dot);
  const std::string name = module.substr(module.rfind('.') + 1);
  const bool is_norm =
      (name.ends_with("norm") && !module.ends_with("mixer.norm")) || name == "core_attention";
  const bool has_state = name.starts_with("linear_") || (norms && is_norm) || name == "in_proj" ||
                         name == "out_proj" || name == "eh_proj" || name.ends_with("latent_proj") ||
                         name == "per_layer_model_proj";
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

Result<GlobalKeys> global_keys(const plan::Plan& plan) {
  const StoredNames names(plan);
  std::vector<Plain> all;
  for (const plan::ShardFile& file : plan.files()) {
    for (const plan::Target& target : file.targets) {
      if (!target.copy) {
        const model::Mapping& mapping = plan.model().mappings[target.mapping];
        StoredName name = names.of(target.global_name);
        GlobalPlace place = global_place(name);
        all.push_back({&target, std::move(name), std::move(place),
                       plan.bound(mapping).target_shapes()[0],
                       model::stored_as(plan.model(), mapping).keys});
      }
    }
  }
  BV_TRY(blocks, stacked_blocks(all));
  GlobalKeys out;
  std::map<std::string, std::set<Shape>> states;
  for (const Plain& one : all) {
    const GlobalPlace place = stacked(one.name, blocks);
    const model::Mapping& mapping = plan.model().mappings[one.target->mapping];
    std::vector<Part> parts;
    if (!one.name.as_in_memory) {
      BV_TRY(found, parts_of(plan.bound(mapping), place.key));
      parts = found;
    }
    KeyedTarget keyed{one.target, chunks_of(place, one.shape, parts)};
    for (const KeyedChunk& chunk : keyed.chunks) {
      cover(out.shapes[chunk.key], chunk);
    }
    const GlobalPlace own = stacked(names.module_of(one.target->global_name), blocks);
    const auto module = module_with_state(own.key, names.norms_have_states());
    if (module && !one.name.as_in_memory) {
      states[*module].insert(own.index);
    }
    out.targets.push_back(std::move(keyed));
  }
  for (const std::string& stack : hybrid_stacks(all)) {  // other models leave this one out
    states[stack.substr(0, stack.size() - std::string_view("decoder.").size()) + "output_layer"]
        .insert(Shape{});
  }
  out.extra_states = state_keys(states);
  return out;
}

}  // namespace bv::checkpoint
