#pragma once
// Random valid worlds: a geometry and a layout drawn from one seed, judged by every claim. A right
// bridge must have no finding on any of them. A case is a data file, so that a failure is replayed
// for ever.

#include <functional>
#include <string>
#include <vector>

#include "properties/attacks/generators/geometry.hpp"
#include "properties/attacks/generators/layouts.hpp"
#include "properties/attacks/mutants/judge.hpp"

namespace bv::fuzz {

/// Small integers that totals are products of, so that every case is valid by construction and
/// stays valid when any of them shrinks.
struct Draw {
  std::int64_t sample = 0;  // index into the samples, modulo their number
  generators::Geometry geometry;
  generators::Layout layout;
  bool operator==(const Draw&) const = default;
};
[[nodiscard]] Draw draw_from(std::uint64_t seed);
/// The least draw of the same sample that `fails` still holds for.
[[nodiscard]] Draw shrink(const Draw& from, const std::function<bool(const Draw&)>& fails);

/// A world, as it is saved.
struct World {
  std::string sample;
  generators::Settings settings;
  parallel::Layout layout;
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

/// The world of a draw as far as it can be made: the sample is always known. What `prepare` says of
/// it, it says of the draw.
[[nodiscard]] World world_of(const Tools& tools, const Draw& draw);

/// A world with its model.
struct Prepared {
  World world;
  std::shared_ptr<const mutants::Case> model;
};
/// Errors: those of the family and of the layout; a valid draw has none.
[[nodiscard]] Result<Prepared> prepare(const Tools& tools, const Draw& draw);
[[nodiscard]] Result<Prepared> prepare(const Tools& tools, World world);

/// What the claims say of a right bridge on this world, the forward one where the model has a form.
/// Errors: those of the plan.
[[nodiscard]] Result<std::vector<mutants::Finding>> judge(const Tools& tools,
                                                          const Prepared& prepared);

/// Sizes around the legal ones: what the planner accepts must be plannable, what it refuses must
/// have a documented code. Returns why not; "" when both hold.
[[nodiscard]] std::string check_boundary(const Tools& tools, const Prepared& prepared,
                                         const parallel::Layout& layout);
/// Sizes from 1 to 9, legal or not.
[[nodiscard]] parallel::Layout any_layout(std::uint64_t seed);

}  // namespace bv::fuzz
