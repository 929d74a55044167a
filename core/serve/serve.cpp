#include "core/serve/serve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

#include "core/lora/adapter_keys.hpp"
#include "core/lora/sites.hpp"

namespace bv::lora {
namespace {

/// Modules of a checkpoint that the runtime holds as one. `halves`: the first member stands for two
/// slices of keys and one of values as long as the last member.
struct Packed {
  std::string_view runtime;
  std::array<std::string_view, 3> members;
  LayerKind kind;
  bool keys_twice = false;
};
constexpr std::array kPacked = {
    Packed{"qkv_proj", {"q_proj", "k_proj", "v_proj"}, LayerKind::Qkv},
    Packed{"gate_up_proj", {"gate_proj", "up_proj", ""}, LayerKind::MergedColumn},
    Packed{"in_proj_qkvz", {"in_proj_qkv", "in_proj_z", ""}, LayerKind::MergedColumn, true},
    Packed{"in_proj_ba", {"in_proj_b", "in_proj_a", ""}, LayerKind::MergedColumn},
};

struct NameParts {
  std::string parent, last;
};
NameParts split(const std::string& module) {
  const std::size_t dot = module.rfind('.');
  return dot == std::string::npos ? NameParts{"", module}
                                  : NameParts{module.substr(0, dot + 1), module.substr(dot + 1)};
}

Error no_form(const std::string& what, const std::string& found) {
  return fail(Code::AdapterNoForm, what + " cannot be sliced for serving")
      .pair(found, "pairs on linear layers")
      .advise("merge the adapter into its base, or leave that part out");
}

/// What the base says of its tensors: how each is cut, and how many rows it has.
class Layers {
 public:
  Layers(const checkpoint::HfModel& base, const SitePlan& sites) : base_(base), sites_(sites) {
    for (std::uint32_t m = 0; m < base.model.mappings.size(); ++m) {
      for (const std::string& name : base.model.mappings[m].hf) {
        mapping_of_.emplace(name, m);
      }
    }
  }

  /// nullptr: not a linear layer that adapters know.
  [[nodiscard]] const Site* site(const std::string& tensor, std::int64_t expert) const {
    const auto mapping = mapping_of_.find(tensor);
    if (mapping == mapping_of_.end()) {
      return nullptr;
    }
    auto at = sites_.site_of(mapping->second, expert);
    if (!at) {
      at = sites_.site_of(mapping->second, -1);
    }
    return at ? &sites_.sites()[*at] : nullptr;
  }
  /// Rows and columns as a linear layer has them: [out, in].
  [[nodiscard]] std::optional<std::pair<std::int64_t, std::int64_t>> extents(
      const std::string& tensor, bool transposed) const {
    const auto at = base_.headers.find(tensor);
    if (at == base_.headers.end() || at->second.shape.size() < 2) {
      return std::nullopt;
    }
    const Shape& shape = at->second.shape;
    const std::int64_t rows = shape[shape.size() - 2];
    const std::int64_t columns = shape.back();
    return transposed ? std::pair(columns, rows) : std::pair(rows, columns);
  }
  [[nodiscard]] std::int64_t groups() const {
    return base_.model.geometry.get("num_query_groups").value_or(0);
  }
  /// Which of its rule's sources a tensor is.
  [[nodiscard]] std::size_t source_of(const std::string& tensor) const {
    const std::vector<std::string>& hf = base_.model.mappings[mapping_of_.find(tensor)->second].hf;
    return static_cast<std::size_t>(std::find(hf.begin(), hf.end(), tensor) - hf.begin());
  }

 private:
  const checkpoint::HfModel& base_;
  const SitePlan& sites_;
  std::map<std::string, std::uint32_t, std::less<>> mapping_of_;
};

/// Pairs that belong to one runtime layer, before it is sliced.
class Served {
 public:
  Served(const Layers& layers, const Adapter& adapter) : layers_(layers) {
    for (const AdapterPair& pair : adapter.pairs) {
      pairs_[{pair.base, pair.expert}].push_back(&pair);
    }
  }

  Result<std::vector<ServedModule>> modules() {
    std::vector<ServedModule> out;
    std::set<std::pair<std::string, std::int64_t>> done;
    for (const auto& [place, pairs] : pairs_) {
      if (done.contains(place)) {
        continue;
      }
      if (pairs.size() != 1 || pairs.front()->row_step != 1 || pairs.front()->first_row != 0) {
        return no_form(place.first, "an adapter on some of its rows");
      }
      const AdapterPair& pair = *pairs.front();
      if (pair.magnitude) {
        return no_form(place.first, "DoRA magnitudes");
      }
      const Site* site = layers_.site(pair.base, pair.expert);
      if (site == nullptr) {
        return no_form(place.first, "a tensor outside the linear layers of the model");
      }
      BV_TRY(module, module_for(pair, *site));
      for (const std::string& name : module.names) {
        done.insert({name, pair.expert});
      }
      out.push_back(std::move(module));
    }
    return out;
  }

 private:
  Result<ServedModule> module_for(const AdapterPair& pair, const Site& site) {
    const NameParts name = split(std::string(module_of(pair.base)));
    for (const Packed& packed : kPacked) {
      const auto at = std::find(packed.members.begin(), packed.members.end(), name.last);
      if (at != packed.members.end() && all_there(packed, name.parent)) {
        return packed_module(packed, name.parent, pair.expert);
      }
    }
    return single_module(pair, site);
  }

  [[nodiscard]] bool all_there(const Packed& packed, const std::string& parent) const {
    return std::all_of(packed.members.begin(), packed.members.end(), [&](std::string_view member) {
      return member.empty() || layers_.extents(fmt::format("{}{}.weight", parent, member), false);
    });
  }

  Result<ServedModule> packed_module(const Packed& packed, const std::string& parent,
                                     std::int64_t expert) {
    ServedModule out;
    out.layer.name = parent + std::string(packed.runtime);
    out.layer.kind = packed.kind;
    out.layer.kv_heads = layers_.groups();
    std::vector<std::int64_t> rows;
    for (const std::string_view member : packed.members) {
      if (member.empty()) {
        continue;
      }
      const std::string tensor = fmt::format("{}{}.weight", parent, member);
      const auto extents = layers_.extents(tensor, false);
      rows.push_back(extents->first);
      out.layer.columns = extents->second;
      const auto found = pairs_.find({tensor, expert});
      out.names.push_back(tensor);
      out.members.push_back(found == pairs_.end() ? nullptr : found->second.front());
    }
    out.layer.slices = rows;
    if (packed.keys_twice) {
      const std::int64_t keys = (rows[0] - rows[1]) / 2;
      out.layer.slices = {keys, keys, rows[1], rows[1]};
    }
    return out;
  }

  Result<ServedModule> single_module(const AdapterPair& pair, const Site& site) {
    const auto extents = layers_.extents(pair.base, pair.transposed);
    if (!extents) {
      return no_form(pair.base, "a tensor without rows and columns");
    }
    ServedModule out;
    out.layer.name = module_of(pair.base);
    if (pair.expert >= 0) {
      out.layer.name += fmt::format(".{}", pair.expert);
    }
    out.layer.columns = extents->second;
    out.layer.slices = {extents->first};
    out.names = {pair.base};
    out.members = {&pair};
    switch (site.cut) {
      case BaseCut::Columns:
        out.layer.kind = LayerKind::Row;
        return out;
      case BaseCut::Nothing:
        out.layer.kind = LayerKind::Replicated;
        return out;
      case BaseCut::Rows:
        out.layer.kind = LayerKind::Column;
        break;
    }
    cut_by_parts(site, layers_.source_of(pair.base), out.layer);
    return out;
  }

  /// A tensor whose rows are parts one below the other (q, k, v; gate, up) is cut part by part.
  static void cut_by_parts(const Site& site, std::size_t source, ServedLayer& layer) {
    const std::vector<layout::Dim>& dims = site.rows->rule().sources[source].dims;
    if (dims.size() != 1 || dims.front().product.size() != 1 ||
        dims.front().product.front().kind != layout::Factor::Kind::Sum) {
      return;
    }
    const layout::Product& rows = dims.front().product;
    layer.slices.clear();
    std::vector<std::string> names;
    for (const layout::Choice& choice : rows.front().choices) {
      layer.slices.push_back(size_of(choice.product, *site.rows));
      names.push_back(choice.name);
    }
    const bool heads = names == std::vector<std::string>{"q", "k", "v"};
    layer.kind = heads ? LayerKind::Qkv : LayerKind::MergedColumn;
    layer.kv_heads = heads ? site.rows->size("g") : layer.kv_heads;
  }

  static std::int64_t size_of(const layout::Product& product, const layout::BoundRule& bound) {
    std::int64_t out = 1;
    for (const layout::Factor& factor : product) {
      std::int64_t sum = 0;
      for (const layout::Choice& choice : factor.choices) {
        sum += size_of(choice.product, bound);
      }
      out *= factor.kind == layout::Factor::Kind::Axis  ? bound.size(factor.axis)
             : factor.kind == layout::Factor::Kind::Sum ? sum
                                                        : 1;
    }
    return out;
  }

  const Layers& layers_;
  std::map<std::pair<std::string, std::int64_t>, std::vector<const AdapterPair*>> pairs_;
};

/// A runtime has one buffer for a projection of all experts.
Status check_expert_ranks(const Adapter& adapter) {
  std::map<std::string, const AdapterPair*> first;
  for (const AdapterPair& pair : adapter.pairs) {
    if (pair.expert < 0 && !expert_of(pair.base)) {
      continue;
    }
    const std::string projection = without_expert(pair.base);
    const AdapterPair& other = *first.try_emplace(projection, &pair).first->second;
    if (other.rank() != pair.rank()) {
      return fail(Code::ExpertPairCount,
                  fmt::format("experts of {} have adapters of different ranks",
                              module_of(projection)))
          .pair(fmt::format("{} has rank {}, {} rank {}", pair.base, pair.rank(), other.base,
                            other.rank()),
                "one rank for all experts of a projection")
          .advise("train them with one rank, or merge the adapter");
    }
  }
  return Done{};
}

Status check_adapter(const Adapter& adapter) {
  if (!adapter.biases.empty()) {
    return no_form(adapter.biases.front().base, "an adapter on a bias");
  }
  if (!adapter.replacements.empty()) {
    return no_form(adapter.replacements.front().base, "a trained tensor");
  }
  return Done{};
}

}  // namespace

std::int64_t rank_needed(const Adapter& adapter, std::int64_t tp, bool fully_sharded) {
  std::int64_t most = 1;
  for (const AdapterPair& pair : adapter.pairs) {
    most = std::max(most, pair.rank());
  }
  return fully_sharded ? (most + tp - 1) / tp * tp : most;
}

Result<std::vector<ServedModule>> serve_adapter(const checkpoint::HfModel& base,
                                                const kinds::Catalogue& kinds,
                                                const Adapter& adapter, const Serving& serving) {
  BV_CHECK(check_usable(adapter));
  BV_CHECK(check_adapter(adapter));
  BV_CHECK(check_expert_ranks(adapter));
  BV_TRY(plan, plan::Plan::make(base.model, kinds, parallel::Layout{}));
  BV_TRY(sites, SitePlan::make(plan, kinds));
  const Layers layers(base, sites);
  BV_TRY(modules, Served(layers, adapter).modules());
  for (ServedModule& module : modules) {
    std::vector<std::optional<Member>> members;
    for (const AdapterPair* pair : module.members) {
      members.push_back(pair == nullptr ? std::nullopt
                                        : std::optional(Member{pair->a.rows, pair->a.columns,
                                                               pair->b.rows, pair->b.columns}));
    }
    BV_TRY(ranks, slice_layer(module.layer, members, {}, serving));
    module.ranks = std::move(ranks);
  }
  return std::move(modules);
}

}  // namespace bv::lora
