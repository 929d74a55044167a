#pragma once
// Where a rank stands in the process grid, and the groups that it does collectives with.

#include "core/comm/group.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::comm {

/// "tp1 pp0 ep3", with etp, cp and dp where the layout or the world has more than one.
[[nodiscard]] std::string coordinates_text(const parallel::Layout& layout,
                                           const parallel::Coordinates& at);
/// One text for each rank of the world. Errors: those of parallel::rank_table.
[[nodiscard]] Result<std::vector<std::string>> coordinates_of_world(const parallel::Layout& layout,
                                                                    int world_size);

/// What each process stands for when a layout of another size is divided among them: "tp0 pp0 ep0",
/// the first of its ranks.
[[nodiscard]] std::vector<std::string> coordinates_of_processes(const parallel::Layout& layout,
                                                                int processes);

/// The groups of one rank. Members in the order of their coordinate.
struct Grid {
  parallel::Coordinates at;
  Group tp;   // same pp, dp and cp
  Group etp;  // of experts: same pp, ep and edp
  Group ep;   // same pp, etp and edp
  Group pp;   // same tp, cp and dp
};
/// Names the ranks of the link by their coordinates. Errors: those of parallel::rank_table: the
/// world must be a multiple of what the layout needs.
[[nodiscard]] Result<Grid> grid_of(Link& link, const parallel::Layout& layout);

}  // namespace bv::comm
