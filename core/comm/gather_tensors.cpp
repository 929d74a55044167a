#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/arith.hpp"
#include "core/checkpoint/megatron_shards.hpp"
#include "core/comm/packed.hpp"
#include "core/comm/roads.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::comm {
namespace {

/// Shards of one mapping by their place in the list of distinct owners.
using Shards = std::map<std::int64_t, Bytes>;

Bytes message_of(const Shards& shards) {
  std::vector<std::string> texts;
  for (const auto& [number, bytes] : shards) {
    texts.push_back(std::to_string(number));
    texts.push_back(text_of(bytes));
  }
  return packed(texts);
}

/// The way back; nothing when the message is another one.
std::optional<Shards> shards_of(std::span<const std::byte> message) {
  const auto texts = unpacked(message);
  if (!texts || texts->size() % 2 != 0) {
    return std::nullopt;
  }
  Shards out;
  for (std::size_t i = 0; i < texts->size(); i += 2) {
    const std::string& text = (*texts)[i];
    std::int64_t number = -1;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
    if (read.ec != std::errc() || number < 0) {
      return std::nullopt;
    }
    out[number] = bytes_of((*texts)[i + 1]);
  }
  return out;
}

class Gather {
 public:
  Gather(const plan::Plan& plan, const Headers& headers, const plan::DtypePolicy& policy,
         const ReadParameter& read)
      : plan_(plan), headers_(headers), policy_(policy), read_(read) {}

  /// All shards of a mapping, on every rank, in the order of checkpoint::Owners::distinct.
  Result<std::vector<TypedBytes>> shards(Grid& grid, std::size_t index) {
    distinct_ = checkpoint::split_owners(plan_, index).distinct;
    const model::Mapping& mapping = plan_.model().mappings[index];
    const std::int64_t home = plan_.files()[distinct_.front().file].key.pp;
    const std::string& what = target_of(0).global_name;
    Shards mine;
    if (grid.at.pp == home) {
      BV_TRY(own, own_shards(grid.at, index));
      BV_TRY(cut, united(mapping.rule->expert ? grid.etp : grid.tp, own, what));
      mine = std::move(cut);
      if (mapping.rule->expert) {
        BV_TRY(experts, united(grid.ep, mine, what));
        mine = std::move(experts);
      }
    }
    return spread(grid, static_cast<int>(home), mapping, mine);
  }

  /// HF tensor `position` of a mapping, made of its shards.
  Result<TypedBytes> tensor(std::size_t index, std::size_t position,
                            const std::vector<TypedBytes>& shards) const {
    const model::Mapping& mapping = plan_.model().mappings[index];
    const TensorSpec& spec = headers_.find(mapping.hf[position])->second;
    move::Recipe recipe;
    recipe.dtype = spec.dtype;
    recipe.elements = element_count(spec.shape).value();
    recipe.add = -mapping.rule->value.added_on_import();
    for (std::size_t i = 0; i < shards.size(); ++i) {
      recipe.sources.push_back({shards[i].bytes.data(), shards[i].dtype});
      for (const layout::Box& box : plan_.shard(target_of(i)).boxes) {
        if (box.source == static_cast<int>(position)) {
          recipe.boxes.push_back(layout::inverse(box, static_cast<int>(i)));
        }
      }
    }
    TypedBytes out{spec.dtype, spec.shape, {}};
    out.bytes.resize(static_cast<std::size_t>(recipe.elements * bytes(spec.dtype)));
    const ElementOffset end(recipe.elements);
    move::TensorMaker maker(std::move(recipe));
    BV_CHECK(maker.make(ElementOffset(0), end, out.bytes.data()));
    return out;
  }

 private:
  [[nodiscard]] const plan::Target& target_of(std::size_t number) const {
    return checkpoint::target_at(plan_, distinct_[number]);
  }

  /// The number of what this target holds in the list of distinct owners: the same mapping, expert
  /// and, where the rank cuts it, the same part.
  [[nodiscard]] std::int64_t number_of(const plan::Target& target) const {
    std::int64_t same_expert = -1;
    for (std::size_t i = 0; i < distinct_.size(); ++i) {
      if (target_of(i).expert == target.expert) {
        same_expert = same_expert < 0 ? static_cast<std::int64_t>(i) : same_expert;
        if (target_of(i).t == target.t) {
          return static_cast<std::int64_t>(i);
        }
      }
    }
    return same_expert;
  }

  Result<Shards> own_shards(const parallel::Coordinates& at, std::size_t index) {
    Shards out;
    for (const plan::ShardFile& file : plan_.files()) {
      if (file.key.pp != at.pp || file.key.tp != at.tp || file.key.ep != at.ep ||
          file.key.etp != at.etp) {
        continue;
      }
      for (const plan::Target& target : file.targets) {
        if (target.mapping == index && !target.copy) {
          BV_TRY(held, read_(file, target));
          out[number_of(target)] = std::move(held.bytes);
        }
      }
    }
    return out;
  }

  /// What all members hold. One shard that several hold must be one.
  Result<Shards> united(Group& group, const Shards& own, const std::string& what) {
    BV_TRY(all, group.all_gather(message_of(own), what));
    Shards out;
    for (std::size_t place = 0; place < all.size(); ++place) {
      auto theirs = shards_of(all[place]);
      if (!theirs) {
        return fail(Code::RankDiverged, fmt::format("{} does not send shards of {}",
                                                    group.name_at(static_cast<int>(place)), what))
            .advise("start every process with the same command line and the same files");
      }
      for (auto& [number, bytes] : *theirs) {
        const auto known = out.find(number);
        if (known != out.end() && known->second != bytes) {
          return fail(Code::ReplicasDiffer,
                      fmt::format("{} holds another copy of {} than the ranks before it",
                                  group.name_at(static_cast<int>(place)), what))
              .advise("write one copy to all ranks that hold the parameter");
        }
        out.insert_or_assign(number, std::move(bytes));
      }
    }
    return out;
  }

  /// The stage that holds the shards gives them to all others.
  Result<std::vector<TypedBytes>> spread(Grid& grid, int home, const model::Mapping& mapping,
                                         Shards& mine) {
    const DType dtype =
        plan::target_dtype(*mapping.rule, plan::dtypes_of(headers_, mapping), policy_);
    std::vector<TypedBytes> out;
    for (std::size_t i = 0; i < distinct_.size(); ++i) {
      TypedBytes shard{dtype, plan_.bound(mapping).target_shapes()[0], {}};
      shard.bytes = std::move(mine[static_cast<std::int64_t>(i)]);
      BV_TRY(got, grid.pp.broadcast_as(home, shard, dtype, target_of(i).global_name));
      if (got.shape != shard.shape) {
        return fail(Code::RankDiverged,
                    fmt::format("{} has another shape on {}", target_of(i).global_name,
                                grid.pp.name_at(home)))
            .advise("start every process with the same command line and the same files");
      }
      out.push_back(std::move(got));
    }
    return out;
  }

  const plan::Plan& plan_;
  const Headers& headers_;
  const plan::DtypePolicy& policy_;
  const ReadParameter& read_;
  std::vector<plan::Plan::Owner> distinct_;
};

}  // namespace

Status gather_tensors(Link& link, const plan::Plan& plan, const Headers& headers,
                      const plan::DtypePolicy& policy, const ReadParameter& read,
                      const TakeHf& take) {
  BV_TRY(grid, grid_of(link, plan.layout()));
  Gather gather(plan, headers, policy, read);
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    BV_TRY(shards, gather.shards(grid, m));
    for (std::size_t i = 0; i < plan.model().mappings[m].hf.size(); ++i) {
      BV_TRY(made, gather.tensor(m, i, shards));
      BV_CHECK(take(plan.model().mappings[m].hf[i], std::move(made)));
    }
  }
  return Done{};
}

}  // namespace bv::comm
