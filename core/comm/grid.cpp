#include "core/comm/grid.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bv::comm {
namespace {

using parallel::Coordinates;

/// Ranks that are where `at` is but for one coordinate, which `same` leaves out.
template <class Same>
std::vector<int> ranks_where(const std::vector<Coordinates>& table, const Same& same) {
  std::vector<int> out;
  for (std::size_t rank = 0; rank < table.size(); ++rank) {
    if (same(table[rank])) {
      out.push_back(static_cast<int>(rank));
    }
  }
  return out;
}

}  // namespace

std::string coordinates_text(const parallel::Layout& layout, const Coordinates& at) {
  std::string out = fmt::format("tp{} pp{} ep{}", at.tp, at.pp, at.ep);
  if (layout.etp > 1) {
    out += fmt::format(" etp{}", at.etp);
  }
  if (layout.cp > 1) {
    out += fmt::format(" cp{}", at.cp);
  }
  if (at.dp > 0) {
    out += fmt::format(" dp{}", at.dp);
  }
  return out;
}

Result<std::vector<std::string>> coordinates_of_world(const parallel::Layout& layout,
                                                      int world_size) {
  BV_TRY(table, parallel::rank_table(layout, world_size));
  std::vector<std::string> out;
  for (const Coordinates& at : table) {
    out.push_back(coordinates_text(layout, at));
  }
  return out;
}

std::vector<std::string> coordinates_of_processes(const parallel::Layout& layout, int processes) {
  const std::int64_t world = parallel::minimum_world(layout);
  const auto table = parallel::rank_table(layout, world);
  BV_ASSERT(table.has_value());  // the layout of a plan
  std::vector<std::string> out(static_cast<std::size_t>(processes));
  for (std::int64_t rank = std::max<std::int64_t>(world, processes); rank-- > 0;) {
    const std::int64_t process = processes < world ? rank * processes / world : rank;
    out[static_cast<std::size_t>(process)] =
        coordinates_text(layout, (*table)[static_cast<std::size_t>(rank % world)]);
  }
  return out;
}

Result<Grid> grid_of(Link& link, const parallel::Layout& layout) {
  BV_TRY(table, parallel::rank_table(layout, link.size()));
  BV_TRY(names, coordinates_of_world(layout, link.size()));
  link.name_coordinates(std::move(names));
  const Coordinates at = table[static_cast<std::size_t>(link.rank())];
  // The table is in rank order, and within one group the coordinate grows with the rank.
  return Grid{at,
              {link,
               ranks_where(table,
                           [&](const Coordinates& one) {
                             return one.pp == at.pp && one.dp == at.dp && one.cp == at.cp;
                           }),
               "TP"},
              {link,
               ranks_where(table,
                           [&](const Coordinates& one) {
                             return one.pp == at.pp && one.ep == at.ep && one.edp == at.edp;
                           }),
               "ETP"},
              {link,
               ranks_where(table,
                           [&](const Coordinates& one) {
                             return one.pp == at.pp && one.etp == at.etp && one.edp == at.edp;
                           }),
               "EP"},
              {link,
               ranks_where(table,
                           [&](const Coordinates& one) {
                             return one.tp == at.tp && one.dp == at.dp && one.cp == at.cp;
                           }),
               "PP"}};
}

}  // namespace bv::comm
