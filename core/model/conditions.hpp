#pragma once
// What the conditions and repetitions of a family come to on one geometry.

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/family/expression.hpp"
#include "core/family/family.hpp"
#include "core/model/model.hpp"

namespace bv::model {

/// The flags of repetition `index` of a section.
[[nodiscard]] std::set<std::string, std::less<>> section_flags(const family::Section& section,
                                                               const Geometry& geometry,
                                                               std::int64_t index);

/// The names of a checkpoint and the prefixes found in them.
struct NamesThere {
  const Headers* headers = nullptr;
  const std::map<std::string, std::string, std::less<>>* prefixes = nullptr;
};
/// read_geometry with names at hand for symbols that have a probe; `there` may be null.
[[nodiscard]] Result<Geometry> read_geometry_with(const family::Family& family,
                                                  const nlohmann::json& config,
                                                  const NamesThere* there);

/// How often a section repeats: 1 without a variable. Errors: as evaluate; ConfigField above
/// kRepeatsMax.
[[nodiscard]] Result<std::int64_t> repeats(const family::Family& family,
                                           const family::Section& section,
                                           const Geometry& geometry);
inline constexpr std::int64_t kRepeatsMax = 65536;

/// family::expand of an HF template; one that starts with no prefix stands below prefixes[""].
[[nodiscard]] Result<std::string> expand_hf(const family::Family& family, std::string_view text,
                                            const family::NameValues& values);

/// True when the conditions hold in at least one repetition of the section.
[[nodiscard]] bool occurs(const family::Family& family, const family::Section& section,
                          const std::vector<std::string>& when, const Geometry& geometry,
                          std::int64_t count);

}  // namespace bv::model
