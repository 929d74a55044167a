#include "core/comm/shares.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "core/comm/packed.hpp"

namespace bv::comm {
namespace {

using Place = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

/// The processes that stand for the ranks at a place: with fewer processes than ranks each stands
/// for neighbours, with more of them several for one rank.
std::map<Place, std::set<int>> processes_at(const parallel::Layout& layout, int processes) {
  const std::int64_t world = parallel::minimum_world(layout);
  const auto table = parallel::rank_table(layout, world);
  BV_ASSERT(table.has_value());  // the layout of a plan
  std::map<Place, std::set<int>> out;
  for (std::int64_t i = 0; i < std::max<std::int64_t>(world, processes); ++i) {
    const auto& at = (*table)[static_cast<std::size_t>(i % world)];
    const std::int64_t process = processes <= world ? i * processes / world : i;
    out[{at.pp, at.tp, at.ep, at.etp}].insert(static_cast<int>(process));
  }
  return out;
}

const std::set<int>& processes_of(const std::map<Place, std::set<int>>& at,
                                  const parallel::ShardKey& key) {
  return at.at({key.pp, key.tp, key.ep, key.etp});
}

/// Indices by size, the largest first.
std::vector<std::size_t> by_size(std::span<const std::uint64_t> sizes) {
  std::vector<std::size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return sizes[a] > sizes[b]; });
  return order;
}

template <class Candidates>
int least_loaded(const Candidates& candidates, const std::vector<std::uint64_t>& loads) {
  return *std::min_element(candidates.begin(), candidates.end(), [&](int a, int b) {
    return loads[static_cast<std::size_t>(a)] < loads[static_cast<std::size_t>(b)];
  });
}

}  // namespace

std::vector<int> processes_of_files(const plan::Plan& plan, int processes) {
  const auto at = processes_at(plan.layout(), processes);
  std::vector<int> out;
  for (const plan::ShardFile& file : plan.files()) {
    out.push_back(*processes_of(at, file.key).begin());
  }
  return out;
}

std::vector<int> processes_of_mappings(const plan::Plan& plan, const Headers& headers,
                                       int processes) {
  const auto at = processes_at(plan.layout(), processes);
  const auto& mappings = plan.model().mappings;
  std::vector<std::uint64_t> sizes;
  for (const model::Mapping& mapping : mappings) {
    std::uint64_t bytes = 0;
    for (const std::string& hf : mapping.hf) {
      const auto spec = headers.find(hf);
      bytes += spec == headers.end() ? 0 : tensor_bytes(spec->second);
    }
    sizes.push_back(bytes);
  }
  std::vector<int> out(mappings.size(), 0);
  std::vector<std::uint64_t> loads(static_cast<std::size_t>(processes), 0);
  for (const std::size_t m : by_size(sizes)) {
    std::set<int> candidates;
    for (const plan::Plan::Owner& owner : plan.owners()[m]) {
      candidates.merge(std::set<int>(processes_of(at, plan.files()[owner.file].key)));
    }
    out[m] = least_loaded(candidates, loads);
    loads[static_cast<std::size_t>(out[m])] += sizes[m] + 1;
  }
  return out;
}

std::vector<int> processes_of_pieces(const plan::Plan& plan, std::span<const FilePiece> pieces,
                                     int processes) {
  const auto at = processes_at(plan.layout(), processes);
  std::vector<std::uint64_t> sizes;
  for (const FilePiece& piece : pieces) {
    sizes.push_back(piece.bytes);
  }
  std::vector<int> out(pieces.size(), 0);
  std::vector<std::uint64_t> loads(static_cast<std::size_t>(processes), 0);
  for (const std::size_t i : by_size(sizes)) {
    out[i] = least_loaded(processes_of(at, plan.files()[pieces[i].file].key), loads);
    loads[static_cast<std::size_t>(out[i])] += sizes[i] + 1;
  }
  return out;
}

std::vector<int> balanced(std::span<const std::uint64_t> sizes, int processes) {
  std::vector<int> all(static_cast<std::size_t>(processes));
  std::iota(all.begin(), all.end(), 0);
  std::vector<int> out(sizes.size(), 0);
  std::vector<std::uint64_t> loads(all.size(), 0);
  for (const std::size_t i : by_size(sizes)) {
    out[i] = least_loaded(all, loads);
    loads[static_cast<std::size_t>(out[i])] += sizes[i] + 1;
  }
  return out;
}

Result<std::vector<std::vector<std::string>>> exchanged(Link& link,
                                                        std::span<const std::string> mine,
                                                        std::string_view what) {
  BV_TRY(all, whole_world(link).all_gather(packed(mine), what));
  std::vector<std::vector<std::string>> out;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    auto texts = unpacked(all[rank]);
    if (!texts) {
      return fail(Code::RankDiverged, fmt::format("{} sends something else than {}",
                                                  link.name_of(static_cast<int>(rank)), what))
          .advise("install one version on all hosts");
    }
    out.push_back(std::move(*texts));
  }
  return out;
}

}  // namespace bv::comm
