#include "core/checkpoint/global_shard.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/base/arith.hpp"
#include "core/model/stored_as.hpp"

namespace bv::checkpoint {
namespace {

/// So many slices of one tensor that nothing is made of are named one by one, and no more.
constexpr std::int64_t kStraysMax = 1024;

using Place = GlobalPlace;

/// With the number of its expert in the key (singleton_local_shards); nullopt for other names.
std::optional<Place> with_own_key(const Place& whole) {
  constexpr std::string_view kExperts = ".experts.experts.";
  const std::size_t at = whole.key.find(kExperts);
  if (at == std::string::npos || whole.index.size() != 1) {
    return std::nullopt;
  }
  std::string own = whole.key;
  own.insert(at + kExperts.size(), fmt::format("{}.", whole.index.front()));
  return Place{std::move(own), {}};
}

/// A place without one of the numbers of its key, which is then the first index, or `own` is.
void add_stacked(const Place& whole, std::int64_t own, std::vector<Place>& out) {
  for (std::size_t at = 0; at < whole.key.size();) {
    const std::size_t end = std::min(whole.key.find('.', at), whole.key.size());
    const auto number = number_in(std::string_view(whole.key).substr(at, end - at));
    if (number && end < whole.key.size()) {
      Place stacked{whole.key.substr(0, at) + whole.key.substr(end + 1), {own < 0 ? *number : own}};
      stacked.index.insert(stacked.index.end(), whole.index.begin(), whole.index.end());
      out.push_back(std::move(stacked));
    }
    at = end + 1;
  }
}

/// Everywhere that a parameter of this name may stand.
std::vector<Place> places_of(const StoredName& name) {
  const Place whole = global_place(name);
  std::vector<Place> out = {whole};
  if (name.single) {
    return out;
  }
  add_stacked(whole, name.number, out);
  if (const auto own = with_own_key(whole)) {
    out.push_back(*own);
    add_stacked(*own, name.number, out);
  }
  return out;
}

bool holds(const TensorSpec& tensor, const Shape& index) {
  if (tensor.shape.size() < index.size()) {
    return false;
  }
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] >= tensor.shape[i]) {
      return false;
    }
  }
  return true;
}

/// Pieces that are joined are of one type and one width.
bool fit(const std::vector<GlobalPiece>& pieces) {
  const GlobalPiece& first = pieces.front();
  return std::all_of(pieces.begin(), pieces.end(), [&](const GlobalPiece& one) {
    const std::size_t row = one.index.size();
    const Shape& shape = one.tensor->shape;
    const Shape& other = first.tensor->shape;
    return one.tensor->dtype == first.tensor->dtype && shape.size() == other.size() &&
           shape.size() > row &&
           std::equal(shape.begin() + static_cast<std::ptrdiff_t>(row) + 1, shape.end(),
                      other.begin() + static_cast<std::ptrdiff_t>(row) + 1);
  });
}

std::vector<GlobalPiece> find_parts(const io::TensorStore& store, const Place& place) {
  for (const StoredApart* const way : ways_apart(place.key)) {
    std::vector<GlobalPiece> out;
    std::int64_t row = 0;
    for (const StoredPart& part : way->parts) {
      const TensorSpec* const found = store.find(place.key + std::string(part.suffix));
      if (found != nullptr && holds(*found, place.index) &&
          found->shape.size() > place.index.size()) {
        out.push_back({found, place.index, row});
        row += found->shape[place.index.size()];
      }
    }
    if (out.size() > 1 && fit(out)) {
      return out;
    }
  }
  return {};
}

Shape rest_of(const Shape& shape, std::size_t leading) {
  return {shape.begin() + static_cast<std::ptrdiff_t>(leading), shape.end()};
}

/// The part of a chunk that is of the leading index; nothing when it is of others.
std::optional<io::Chunk> slice(const io::Chunk& chunk, const GlobalPiece& piece) {
  const std::size_t leading = piece.index.size();
  std::int64_t number = 0;  // of the slice in the chunk
  for (std::size_t i = 0; i < leading; ++i) {
    const std::int64_t here = piece.index[i] - chunk.origin[i];
    if (here < 0 || here >= chunk.extent[i]) {
      return std::nullopt;
    }
    number = number * chunk.extent[i] + here;
  }
  std::uint64_t slices = 1;
  for (std::size_t i = 0; i < leading; ++i) {
    slices *= static_cast<std::uint64_t>(chunk.extent[i]);
  }
  io::Chunk out{rest_of(chunk.origin, leading), rest_of(chunk.extent, leading), {}};
  if (!out.origin.empty()) {
    out.origin.front() += piece.row;
  }
  const std::uint64_t size = chunk.bytes.size() / slices;
  out.bytes = chunk.bytes.subspan(static_cast<std::uint64_t>(number) * size, size);
  return out;
}

/// The index after `index` of the leading dimensions of a tensor; false behind the last.
bool to_next(Shape& index, const Shape& shape) {
  for (std::size_t i = index.size(); i-- > 0;) {
    if (++index[i] < shape[i]) {
      return true;
    }
    index[i] = 0;
  }
  return false;
}

}  // namespace

StoredNames::StoredNames(const plan::Plan& plan)
    : fuses_(plan.model().spelling.transformer_engine) {
  constexpr std::string_view kQkv = "self_attention.linear_qkv.weight";
  for (const plan::ShardFile& file : plan.files()) {
    for (const plan::Target& target : file.targets) {
      const std::string& name = target.global_name;
      if (!fuses_ && name.ends_with(kQkv)) {
        layers_.insert(name.substr(0, name.size() - kQkv.size()));
      }
      const model::StoredAs as =
          model::stored_as(plan.model(), plan.model().mappings[target.mapping]);
      if (as.single) {
        single_.emplace(name, as.as_in_memory);
      }
      const std::size_t at =
          as.module.empty() ? std::string::npos : name.find("." + as.module + ".");
      if (at != std::string::npos) {
        modules_[name.substr(0, at + 1) + as.module] = {as.stored, as.number};
      }
    }
  }
}

StoredName StoredNames::module_of(const std::string& name) const {
  for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const auto found = modules_.find(std::string_view(name).substr(0, dot));
    if (found != modules_.end()) {
      StoredName out(name.substr(0, name.rfind('.', dot - 1) + 1) + found->second.stored +
                     name.substr(dot));
      out.kind = found->second.stored;
      out.number = found->second.number;
      return out;
    }
  }
  StoredName out(name);
  if (const auto found = single_.find(name); found != single_.end()) {
    out.single = true;
    out.as_in_memory = found->second;
  }
  return out;
}

StoredName StoredNames::of(const std::string& name) const {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kNorms = {
      {{"input_layernorm.", "self_attention.linear_qkv.layer_norm_"},
       {"pre_mlp_layernorm.", "mlp.linear_fc1.layer_norm_"}}};
  for (const auto& [norm, stored] : kNorms) {
    const std::size_t at = name.rfind(norm);
    if (at != std::string::npos && layers_.contains(name.substr(0, at))) {
      StoredName out =
          module_of(name.substr(0, at) + std::string(stored) + name.substr(at + norm.size()));
      out.single = single_.contains(name);
      return out;
    }
  }
  return module_of(name);
}

std::vector<GlobalPiece> find_global(const io::TensorStore& store, const StoredName& name) {
  for (const Place& place : places_of(name)) {
    const TensorSpec* const found = store.find(place.key);
    if (found != nullptr && holds(*found, place.index)) {
      return {{found, place.index, 0}};
    }
    if (auto parts = find_parts(store, place); !parts.empty()) {
      return parts;
    }
  }
  return {};
}

parallel::Layout global_layout(const io::TensorStore& store, const model::Model& model) {
  parallel::Layout out;
  const std::int64_t rows = model.geometry.get("vocab_size").value_or(0);
  for (const model::Mapping& mapping : model.mappings) {
    if (!mapping.rule->vocabulary) {
      continue;
    }
    const auto pieces = find_global(store, model.megatron_name(mapping));
    const bool padded =
        !pieces.empty() && !pieces[0].tensor->shape.empty() && pieces[0].tensor->shape[0] > rows;
    if (padded) {
      out.vocab_divisor = pieces[0].tensor->shape[0];
    }
  }
  return out;
}

GlobalShard::GlobalShard(const io::TensorStore& store, const plan::Plan& plan) : store_(store) {
  const StoredNames names(plan);
  for (const plan::ShardFile& file : plan.files()) {
    for (const plan::Target& target : file.targets) {
      if (auto pieces = find_global(store, names.of(target.global_name)); !pieces.empty()) {
        add(target.name, std::move(pieces));
      }
    }
  }
  add_strays();
}

GlobalShard::Grid& GlobalShard::grid_of(const GlobalPiece& piece) {
  const auto [place, fresh] = grids_.try_emplace(piece.tensor);
  Grid& grid = place->second;
  if (!fresh) {
    return grid;
  }
  grid.chunks = store_.chunks(*piece.tensor);
  for (std::size_t i = 0; i < grid.chunks.size(); ++i) {
    const io::Chunk& chunk = grid.chunks[i];
    const auto leading = static_cast<std::ptrdiff_t>(piece.index.size());
    const bool single = std::all_of(chunk.extent.begin(), chunk.extent.begin() + leading,
                                    [](std::int64_t extent) { return extent == 1; });
    if (single) {
      grid.of_index[Shape(chunk.origin.begin(), chunk.origin.begin() + leading)].push_back(i);
    } else {
      grid.wide.push_back(i);
    }
  }
  return grid;
}

void GlobalShard::add(std::string name, std::vector<GlobalPiece> pieces) {
  Parameter parameter;
  parameter.spec = {name, pieces.front().tensor->dtype,
                    rest_of(pieces.front().tensor->shape, pieces.front().index.size())};
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) {
      parameter.spec.shape[0] += pieces[i].tensor->shape[pieces[i].index.size()];
    }
    used_[pieces[i].tensor].push_back(pieces[i].index);
    grid_of(pieces[i]);
  }
  parameter.pieces = std::move(pieces);
  parameters_.emplace(std::move(name), std::move(parameter));
}

/// What of the checkpoint no parameter is made of.
void GlobalShard::add_strays() {
  for (const auto& [key, spec] : store_.headers()) {
    const TensorSpec* const tensor = store_.find(key);
    const auto used = used_.find(tensor);
    if (used == used_.end()) {
      add(key, {{tensor, {}, 0}});
      continue;
    }
    std::vector<Shape>& indices = used->second;
    std::sort(indices.begin(), indices.end());
    indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
    Shape index(indices.front().size(), 0);
    const auto all = element_count(std::span(tensor->shape).first(index.size())).value_or(0);
    if (std::ssize(indices) == all) {
      continue;
    }
    const std::vector<Shape> known = indices;
    std::int64_t left = kStraysMax;
    do {
      if (!std::binary_search(known.begin(), known.end(), index)) {
        --left;
        std::string name = key;
        for (const std::int64_t one : index) {
          name += fmt::format("[{}]", one);
        }
        add(std::move(name), {{tensor, index, 0}});
      }
    } while (left > 0 && to_next(index, tensor->shape));
  }
}

const TensorSpec* GlobalShard::find(std::string_view tensor) const {
  const auto found = parameters_.find(tensor);
  return found == parameters_.end() ? nullptr : &found->second.spec;
}

Headers GlobalShard::headers() const {
  Headers out;
  for (const auto& [name, parameter] : parameters_) {
    out.emplace_hint(out.end(), name, parameter.spec);
  }
  return out;
}

std::vector<io::Chunk> GlobalShard::chunks(const TensorSpec& tensor) const {
  std::vector<io::Chunk> out;
  for (const GlobalPiece& piece : parameters_.find(tensor.name)->second.pieces) {
    const Grid& grid = grids_.find(piece.tensor)->second;
    const auto take = [&](std::size_t i) {
      if (auto part = slice(grid.chunks[i], piece)) {
        out.push_back(std::move(*part));
      }
    };
    if (const auto found = grid.of_index.find(piece.index); found != grid.of_index.end()) {
      std::for_each(found->second.begin(), found->second.end(), take);
    }
    std::for_each(grid.wide.begin(), grid.wide.end(), take);
  }
  return out;
}

}  // namespace bv::checkpoint
