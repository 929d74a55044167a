#include "tests/oracles/forward/reshard.hpp"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>

#include "tests/oracles/forward/golden.hpp"

namespace bv::oracle::forward::golden {
namespace {

/// How a parameter is cut: along `axis` (-1: copied), each section by itself.
struct Cut {
  int axis = -1;
  std::vector<std::int64_t> sections;
};

bool has(const std::string& name, std::string_view part) {
  return name.find(part) != std::string::npos;
}
bool is_expert(const std::string& name) {
  return has(name, ".mlp.experts.");
}
bool is_vocabulary(const std::string& name) {
  return name.ends_with("word_embeddings.weight") || name.ends_with("output_layer.weight");
}

/// `rows` is the whole extent of axis 0, `columns` of axis 1 (0 without).
Cut cut_of(const ModelFacts& facts, const std::string& name, std::int64_t rows,
           std::int64_t columns) {
  const DeltaNetFacts& delta = facts.delta;
  const std::int64_t keys = delta.key_heads * delta.key_dim;
  const std::int64_t values = delta.value_heads * delta.value_dim;
  const bool matrix = has(name, ".weight");
  if (has(name, "layer_norm") || has(name, "layernorm")) return {};
  if (has(name, "output_layer") && facts.labels > 0) return {};
  if (has(name, "linear_fc1")) {
    const bool plain = name.starts_with("vision_model.");
    return {0, plain ? std::vector{rows} : std::vector{rows / 2, rows / 2}};
  }
  if (has(name, "linear_fc2") || has(name, "linear_proj") || has(name, "out_proj")) {
    return matrix && columns > 0 ? Cut{1, {columns}} : Cut{};
  }
  if (has(name, "in_proj")) {
    return {0, {keys, keys, values, values, delta.value_heads, delta.value_heads}};
  }
  if (has(name, "conv1d")) return {0, {keys, keys, values}};
  for (const char* part :
       {"linear_qkv", "A_log", "dt_bias", "word_embeddings", "output_layer", "eh_proj",
        "linear_q_up_proj", "linear_q_proj", "linear_kv_up_proj", "softmax_offset"}) {
    if (has(name, part)) return {0, {rows}};
  }
  return {};
}

std::int64_t product(const std::vector<std::int64_t>& shape, std::size_t from, std::size_t to) {
  std::int64_t out = 1;
  for (std::size_t i = from; i < to; ++i) out *= shape[i];
  return out;
}

/// Copies `count` indices of `axis` between tensors that are alike on the other axes.
void copy_slab(const Tensor& source, std::int64_t source_at, Tensor& target, std::int64_t target_at,
               std::int64_t count, std::size_t axis) {
  const std::int64_t outer = product(source.shape, 0, axis);
  const std::int64_t inner = product(source.shape, axis + 1, source.shape.size());
  for (std::int64_t o = 0; o < outer; ++o) {
    const auto from = source.values.begin() + ((o * source.shape[axis] + source_at) * inner);
    std::copy_n(from, count * inner,
                target.values.begin() + ((o * target.shape[axis] + target_at) * inner));
  }
}

Tensor blank(std::vector<std::int64_t> shape) {
  const auto count = static_cast<std::size_t>(product(shape, 0, shape.size()));
  return {std::move(shape), std::vector<double>(count, 0.0)};
}

/// Either direction: the parts of every section lie in one whole, or spread over the shards.
Tensor joined(const ModelFacts& facts, const std::string& name, const std::vector<Tensor>& parts) {
  const auto count = static_cast<std::int64_t>(parts.size());
  const auto& shape = parts.front().shape;
  const std::int64_t columns = shape.size() > 1 ? shape[1] * count : 0;
  const Cut cut = cut_of(facts, name, shape[0] * count, columns);
  if (cut.axis < 0) return parts.front();
  const auto axis = static_cast<std::size_t>(cut.axis);
  std::vector<std::int64_t> whole_shape = shape;
  whole_shape[axis] *= count;
  Tensor whole = blank(whole_shape);
  for (std::int64_t r = 0; r < count; ++r) {
    std::int64_t at = 0;
    std::int64_t base = 0;
    for (const std::int64_t section : cut.sections) {
      const std::int64_t share = section / count;
      copy_slab(parts[static_cast<std::size_t>(r)], at, whole, base + r * share, share, axis);
      at += share;
      base += section;
    }
  }
  return whole;
}

Tensor shard_of(const ModelFacts& facts, const std::string& name, const Tensor& whole,
                std::int64_t count, std::int64_t r) {
  const Cut cut = cut_of(facts, name, whole.shape[0], whole.shape.size() > 1 ? whole.shape[1] : 0);
  if (cut.axis < 0 || count == 1) return whole;
  const auto axis = static_cast<std::size_t>(cut.axis);
  std::vector<std::int64_t> shape = whole.shape;
  shape[axis] /= count;
  Tensor out = blank(shape);
  std::int64_t at = 0;
  std::int64_t base = 0;
  for (const std::int64_t section : cut.sections) {
    const std::int64_t share = section / count;
    copy_slab(whole, base + r * share, out, at, share, axis);
    at += share;
    base += section;
  }
  return out;
}

Tensor with_rows(const Tensor& tensor, std::int64_t rows) {
  std::vector<std::int64_t> shape = tensor.shape;
  shape[0] = rows;
  Tensor out = blank(shape);
  copy_slab(tensor, 0, out, 0, std::min(rows, tensor.shape[0]), 0);
  return out;
}

/// Renumbers the digits behind `stem`.
std::string moved(const std::string& name, std::string_view stem, std::int64_t by) {
  const auto at = name.find(stem);
  if (at == std::string::npos || by == 0) return name;
  const auto begin = at + stem.size();
  const auto end = name.find_first_not_of("0123456789", begin);
  const std::int64_t number = std::stoll(name.substr(begin, end - begin)) + by;
  return name.substr(0, begin) + fmt::format("{}", number) +
         (end == std::string::npos ? "" : name.substr(end));
}

std::string global_name(const std::string& name, std::int64_t first_layer,
                        std::int64_t first_expert) {
  std::string out =
      name.starts_with("vision_model.") ? name : moved(name, "decoder.layers.", first_layer);
  for (const char* stem : {"experts.linear_fc1.weight", "experts.linear_fc2.weight",
                           "experts.linear_fc1.bias", "experts.linear_fc2.bias"}) {
    if (!has(name, "shared_experts")) out = moved(out, stem, first_expert);
  }
  return out;
}

const Tensor& whole_of(const Whole& whole, const std::string& name) {
  const auto at = whole.tensors.find(name);
  if (at != whole.tensors.end()) return at->second;
  // The last of several stages holds a copy of a tied embedding as its output layer.
  const auto output = name.find("output_layer.weight");
  if (output == std::string::npos) throw std::runtime_error("no whole parameter " + name);
  return whole.tensors.at(name.substr(0, output) + "embedding.word_embeddings.weight");
}

std::int64_t layers_in(const nlohmann::json& shard) {
  std::int64_t count = 0;
  for (const auto& [name, entry] : shard.at("tensors").items()) {
    const auto at = name.find("decoder.layers.");
    if (at == std::string::npos || name.starts_with("vision_model.")) continue;
    count = std::max<std::int64_t>(count, std::stoll(name.substr(at + 15)) + 1);
  }
  return count;
}

}  // namespace

std::string float_digest(const Tensor& tensor) {
  const std::vector<float> floats(tensor.values.begin(), tensor.values.end());
  const XXH128_hash_t hash = XXH3_128bits(floats.data(), floats.size() * sizeof(float));
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

Whole unsharded(const std::string& name, const std::string& layout) {
  Whole whole{facts_of(name), {}};
  const auto ranks = read_shards(name, layout);
  std::int64_t ep_size = 1;
  for (const RankTensors& rank : ranks) ep_size = std::max(ep_size, rank.ep + 1);
  const std::int64_t local_experts = whole.facts.moe.experts / ep_size;
  std::map<std::string, std::map<std::int64_t, Tensor>> parts;
  for (const RankTensors& rank : ranks) {
    for (const auto& [local, tensor] : rank.tensors) {
      const bool expert = is_expert(local);
      parts[global_name(local, 0, rank.ep * local_experts)].emplace(expert ? 0 : rank.tp, tensor);
    }
  }
  for (const auto& [global, by_rank] : parts) {
    std::vector<Tensor> list;
    for (const auto& part : by_rank) list.push_back(part.second);
    Tensor tensor = joined(whole.facts, global, list);
    const bool padded = is_vocabulary(global) && whole.facts.labels == 0;
    whole.tensors.emplace(global, padded ? with_rows(tensor, whole.facts.vocab) : tensor);
  }
  return whole;
}

double repair_out_norms(Whole& whole, const NamedTensors& hf) {
  double largest = 0.0;
  for (auto& [name, tensor] : whole.tensors) {
    const auto at = name.find("self_attention.out_norm.weight");
    if (at == std::string::npos) continue;
    const auto layers = name.find(".layers.");
    const std::string ending = name.substr(layers, at - layers) + "linear_attn.norm.weight";
    const auto source =
        std::ranges::find_if(hf, [&](const auto& entry) { return entry.first.ends_with(ending); });
    if (source == hf.end()) throw std::runtime_error("no HF norm for " + name);
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      const double exact = source->second.values[i] - 1.0;
      largest = std::max(largest, std::abs(tensor.values[i] - exact));
      tensor.values[i] = exact;
    }
  }
  return largest;
}

std::vector<MadeShard> shards_like(const Whole& whole, const std::string& name,
                                   const std::string& layout) {
  const auto json =
      nlohmann::json::parse(read_text(root() + "megatron/" + name + "/" + layout + ".json"));
  const auto size = [&](const char* key) { return json.at("layout").at(key).get<std::int64_t>(); };
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t>
      layers;  // (chunk, stage) -> layers there
  for (const auto& shard : json.at("shards")) {
    layers[{shard.value("vp", 0), shard.at("pp")}] = layers_in(shard);
  }
  std::vector<MadeShard> out;
  for (const auto& shard : json.at("shards")) {
    MadeShard made;
    made.rank = {shard.at("pp"),  shard.at("tp"),       shard.at("ep"),
                 shard.at("etp"), shard.value("vp", 0), {}};
    std::int64_t first_layer = 0;
    for (const auto& [place, count] : layers) {
      if (place < std::pair{made.rank.vpp, made.rank.pp}) first_layer += count;
    }
    for (const auto& [local, entry] : shard.at("tensors").items()) {
      const bool expert = is_expert(local);
      const auto first_expert = made.rank.ep * (whole.facts.moe.experts / size("ep"));
      const std::string global = global_name(local, first_layer, first_expert);
      const std::int64_t count = size(expert ? "etp" : "tp");
      Tensor tensor = whole_of(whole, global);
      const auto rows = entry.at(1).at(0).get<std::int64_t>();
      if (is_vocabulary(global) && whole.facts.labels == 0)
        tensor = with_rows(tensor, rows * count);
      made.rank.tensors.emplace(local, shard_of(whole.facts, global, tensor, count,
                                                expert ? made.rank.etp : made.rank.tp));
      made.digests.emplace(local, entry.at(2));
    }
    out.push_back(std::move(made));
  }
  return out;
}

std::vector<RankTensors> ranks_of(const std::vector<MadeShard>& shards) {
  std::vector<RankTensors> out;
  for (const MadeShard& shard : shards) out.push_back(shard.rank);
  return out;
}

std::vector<RankTensors> tensor_parallel(const Whole& whole, std::int64_t tp_size) {
  std::vector<RankTensors> out;
  for (std::int64_t r = 0; r < tp_size; ++r) {
    RankTensors rank{0, r, 0, 0, 0, {}};
    for (const auto& [name, tensor] : whole.tensors) {
      Tensor full = tensor;
      if (is_vocabulary(name) && whole.facts.labels == 0) {
        full = with_rows(tensor, (whole.facts.vocab + tp_size - 1) / tp_size * tp_size);
      }
      rank.tensors.emplace(name,
                           is_expert(name) ? full : shard_of(whole.facts, name, full, tp_size, r));
    }
    out.push_back(std::move(rank));
  }
  return out;
}

}  // namespace bv::oracle::forward::golden
