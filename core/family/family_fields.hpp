#pragma once
// Small values of a family file that several of its parts have. Errors of all: RulesInvalid naming
// file and place.

#include <string_view>
#include <vector>

#include "core/family/family.hpp"
#include "core/family/json_place.hpp"

namespace bv::family {

/// "a.b" or {"count": "a.b"}.
[[nodiscard]] Result<FieldPath> parse_field(const JsonPlace& place);
/// An empty path where `key` is absent.
[[nodiscard]] Result<FieldPath> field_or_none(const JsonPlace& place, std::string_view key);
/// One path or a list of them; none where `key` is absent.
[[nodiscard]] Result<std::vector<FieldPath>> fields_or_none(const JsonPlace& place,
                                                            std::string_view key);
[[nodiscard]] Result<std::int64_t> number_or(const JsonPlace& place, std::string_view key,
                                             std::int64_t fallback);
/// Keys of a family about PEFT and the class: peft_moves_experts, peft_stacks, class_modules.
[[nodiscard]] Status parse_class_facts(const JsonPlace& top, Family& out);

}  // namespace bv::family
