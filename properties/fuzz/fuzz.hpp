#pragma once
// Random valid worlds: a geometry and a layout drawn from one seed, judged by every claim. A right
// bridge must have no finding on any of them. A case is a data file, so that a failure is replayed
// for ever.

#include <functional>
#include <string>
#include <vector>

#include "properties/mutants/judge.hpp"

namespace bv::fuzz {

/// Small integers that totals are products of, so that every case is valid by construction and
/// stays valid when any of them shrinks.
struct Draw {
  std::uint64_t sample = 0;     // index into the samples, modulo their number
  std::int64_t groups = 2;      // query groups
  std::int64_t heads_each = 1;  // query heads of a group
  std::int64_t head_pairs = 1;  // half of head_dim, in units that rotary sections allow
  std::int64_t ffn_each = 1;    // FFN rows in units of 8
  std::int64_t vocabulary = 1;  // rows beyond 83
  std::uint64_t layout = 0;     // index into the legal layouts, modulo their number
  bool operator==(const Draw&) const = default;
};
[[nodiscard]] Draw draw_from(std::uint64_t seed);

/// A world, as it is saved.
struct World {
  std::string sample;
  std::vector<std::pair<std::string, std::string>> settings;
  std::string layout;
  bool operator==(const World&) const = default;
};
[[nodiscard]] std::string to_text(const World& world);
/// Errors: BadValue naming the field.
[[nodiscard]] Result<World> world_from_text(std::string_view text, const std::string& file);

struct Tools {
  mutants::Library library;
  std::vector<mutants::Sample> samples;
  oracle::Entry oracle;
};

/// The config fields and the layout of a draw. Errors: those of the family; a valid draw has none.
[[nodiscard]] Result<World> world_of(const Tools& tools, const Draw& draw);
/// What the claims say of a right bridge on this world. Errors: those of the config, the layout and
/// the plan.
[[nodiscard]] Result<std::vector<mutants::Finding>> judge(const Tools& tools, const World& world);

/// Sizes around the legal ones: what the planner accepts must be plannable, what it refuses must
/// have a documented code. Returns why not; "" when both hold.
[[nodiscard]] std::string check_boundary(const Tools& tools, const Draw& draw,
                                         const parallel::Layout& layout);
/// Sizes from 1 to 9, legal or not.
[[nodiscard]] parallel::Layout any_layout(std::uint64_t seed);

}  // namespace bv::fuzz
