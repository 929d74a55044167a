#include "core/serve/slice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "core/base/assert.hpp"

namespace bv::lora {
namespace {

struct KindName {
  LayerKind kind;
  const char* name;
};
constexpr std::array kKinds = {
    KindName{LayerKind::Column, "column parallel"},
    KindName{LayerKind::MergedColumn, "merged column parallel"},
    KindName{LayerKind::Qkv, "QKV"},
    KindName{LayerKind::Row, "row parallel"},
    KindName{LayerKind::Replicated, "replicated"},
};
const char* name_of(LayerKind kind) {
  return std::find_if(kKinds.begin(), kKinds.end(),
                      [&](const KindName& one) { return one.kind == kind; })
      ->name;
}

Error not_served(const ServedLayer& layer, std::int64_t packed, const std::string& wanted) {
  return fail(Code::SliceLayer,
              fmt::format("{} cannot be served with this adapter: it is a {} layer of {} slices",
                          layer.name, name_of(layer.kind), layer.slices.size()))
      .pair(fmt::format("{} packed members", packed), wanted)
      .advise("correct the mapping of packed modules, or leave the layer out of the adapter");
}

Error indivisible(const ServedLayer& layer, std::int64_t tp, std::int64_t size,
                  const std::string& what) {
  return fail(Code::IndivisibleDim,
              fmt::format("TP={} does not divide the {} {} of {}", tp, size, what, layer.name))
      .pair(fmt::format("{} {}", size, what), fmt::format("a multiple of {}", tp))
      .advise("choose another --tp");
}

/// How many different shards a slice has, over all ranks: 1 when every rank holds it whole.
Result<std::int64_t> shards_of(const ServedLayer& layer, std::size_t slice,
                               const Serving& serving) {
  if (layer.kind == LayerKind::Row || layer.kind == LayerKind::Replicated ||
      (slice < layer.whole.size() && layer.whole[slice])) {
    return 1;
  }
  if (layer.kind != LayerKind::Qkv || slice == 0) {
    return serving.tp;
  }
  const std::int64_t heads = layer.kv_heads;
  if (heads <= 0 || (heads % serving.tp != 0 && serving.tp % heads != 0)) {
    return indivisible(layer, serving.tp, heads, "key and value heads");
  }
  return std::min(heads, serving.tp);
}

Status check_member(const ServedLayer& layer, std::size_t index, const Member& member,
                    const Serving& serving) {
  const std::string which = fmt::format("member {} of {}", index + 1, layer.name);
  if (member.a_rows != member.b_columns || member.a_rows <= 0) {
    return fail(Code::AdapterPairBroken, "the factors of " + which + " have different ranks")
        .pair(fmt::format("lora_A with {} rows, lora_B with {} columns", member.a_rows,
                          member.b_columns),
              "one rank of at least 1")
        .advise("save the adapter again");
  }
  if (member.a_rows > serving.rank_max) {
    return fail(Code::AdapterPairBroken,
                fmt::format("rank {} of {} is above --max-rank", member.a_rows, which))
        .pair(fmt::format("rank {}", member.a_rows), fmt::format("at most {}", serving.rank_max))
        .advise(fmt::format("serve with --max-rank {}", member.a_rows));
  }
  if (member.a_columns != layer.columns) {
    return fail(Code::AdapterShape,
                fmt::format("lora_A of {} has {} columns, the layer takes {} inputs", which,
                            member.a_columns, layer.columns))
        .pair(fmt::format("{} columns", member.a_columns), fmt::format("{}", layer.columns))
        .advise("give the adapter that was trained on this model");
  }
  return Done{};
}

Status check_serving(const ServedLayer& layer, const Serving& serving) {
  BV_ASSERT(serving.tp > 0);
  if (serving.fully_sharded && layer.kind != LayerKind::Replicated &&
      serving.rank_max % serving.tp != 0) {
    return fail(Code::IndivisibleDim,
                fmt::format("TP={} does not divide --max-rank {}", serving.tp, serving.rank_max))
        .pair(fmt::format("--max-rank {}", serving.rank_max),
              fmt::format("a multiple of {} with --fully-sharded", serving.tp))
        .advise("choose another --max-rank, or leave --fully-sharded out");
  }
  if (layer.kind == LayerKind::Row && layer.columns % serving.tp != 0) {
    return indivisible(layer, serving.tp, layer.columns, "input columns");
  }
  if (layer.kind == LayerKind::Row && serving.fully_sharded &&
      layer.slices.front() % serving.tp != 0) {
    return indivisible(layer, serving.tp, layer.slices.front(), "rows");
  }
  for (std::size_t i = 0; i < layer.slices.size(); ++i) {
    BV_TRY(shards, shards_of(layer, i, serving));
    if (layer.slices[i] % shards != 0) {
      return indivisible(layer, serving.tp, layer.slices[i], "rows");
    }
  }
  return Done{};
}

/// The part of [0, size) that shard `index` of `count` has, cut off at `used`.
Interval part(std::int64_t size, std::int64_t index, std::int64_t count, std::int64_t used) {
  const std::int64_t each = size / count;
  return {std::min(index * each, used), std::min((index + 1) * each, used)};
}

struct Placed {
  std::size_t member = 0;
  std::int64_t first_row = 0;  // of the slice in the member's B
};

SliceShard shard_of(const ServedLayer& layer, std::size_t slice, std::int64_t rank,
                    std::int64_t shards, const Serving& serving,
                    std::span<const std::optional<Member>> members,
                    const std::optional<Placed>& placed) {
  const std::int64_t rows = layer.slices[slice];
  const bool row = layer.kind == LayerKind::Row;
  const bool cuts_a = serving.fully_sharded && !row && layer.kind != LayerKind::Replicated;
  const bool cuts_b = serving.fully_sharded && row;
  const std::int64_t ways = cuts_b ? serving.tp : shards;
  SliceShard out;
  out.a_rows = cuts_a ? serving.rank_max / serving.tp : serving.rank_max;
  out.a_columns = row ? layer.columns / serving.tp : layer.columns;
  out.b_rows = rows / ways;
  out.b_columns = serving.rank_max;
  if (!placed) {
    return out;
  }
  const std::int64_t lora_rank = members[placed->member]->a_rows;
  out.member = placed->member;
  out.a_from_rows =
      cuts_a ? part(serving.rank_max, rank, serving.tp, lora_rank) : Interval{0, lora_rank};
  out.a_from_columns =
      row ? part(layer.columns, rank, serving.tp, layer.columns) : Interval{0, layer.columns};
  const std::int64_t shard = rank / (serving.tp / ways);
  const Interval own = part(rows, ways == 1 ? 0 : shard, ways, rows);
  out.b_from_rows = {placed->first_row + own.begin, placed->first_row + own.end};
  out.b_from_columns = {0, lora_rank};
  return out;
}

/// Slice -> the member that covers it.
std::vector<std::optional<Placed>> placed_slices(
    const ServedLayer& layer, const std::vector<std::optional<Interval>>& places) {
  std::vector<std::optional<Placed>> out(layer.slices.size());
  for (std::size_t j = 0; j < places.size(); ++j) {
    std::int64_t row = 0;
    for (std::int64_t i = places[j] ? places[j]->begin : 0; places[j] && i < places[j]->end; ++i) {
      out[static_cast<std::size_t>(i)] = Placed{j, row};
      row += layer.slices[static_cast<std::size_t>(i)];
    }
  }
  return out;
}

}  // namespace

Result<std::int64_t> members_served(const ServedLayer& layer, std::int64_t packed, bool is_target) {
  const auto slices = static_cast<std::int64_t>(layer.slices.size());
  const std::int64_t members = packed == 0 && is_target ? 1 : packed;
  switch (layer.kind) {
    case LayerKind::Qkv:
      if (members == 1 || members == 3) {
        return members;
      }
      return not_served(layer, packed, "1 member or 3");
    case LayerKind::MergedColumn:
      if (members >= 1 && members <= slices) {
        return members;
      }
      return not_served(layer, packed, fmt::format("1 to {} members", slices));
    case LayerKind::Column:
    case LayerKind::Row:
    case LayerKind::Replicated:
      if (members <= 1) {
        return std::int64_t{1};
      }
      return not_served(layer, packed, "1 member");
  }
  return not_served(layer, packed, "a layer of a known kind");
}

Result<std::vector<std::vector<SliceShard>>> slice_layer(
    const ServedLayer& layer, std::span<const std::optional<Member>> members,
    const std::vector<Interval>& declared, const Serving& serving) {
  BV_TRY(served, members_served(layer, static_cast<std::int64_t>(members.size()), members.empty()));
  static_cast<void>(served);
  BV_CHECK(check_serving(layer, serving));
  std::vector<std::optional<std::int64_t>> rows;
  for (std::size_t j = 0; j < members.size(); ++j) {
    rows.push_back(members[j] ? std::optional(members[j]->b_rows) : std::nullopt);
    if (members[j]) {
      BV_CHECK(check_member(layer, j, *members[j], serving));
    }
  }
  BV_TRY(places, cover_slices(layer.slices, rows, declared, layer.name));
  const auto placed = placed_slices(layer, places);
  std::vector<std::vector<SliceShard>> out(static_cast<std::size_t>(serving.tp));
  for (std::int64_t rank = 0; rank < serving.tp; ++rank) {
    for (std::size_t i = 0; i < layer.slices.size(); ++i) {
      BV_TRY(shards, shards_of(layer, i, serving));
      out[static_cast<std::size_t>(rank)].push_back(
          shard_of(layer, i, rank, shards, serving, members, placed[i]));
    }
  }
  return out;
}

}  // namespace bv::lora
