#pragma once
// The words of a value rule: "" moves values as they are; each "minus_one" or "plus_one" adds its
// one on the way to Megatron and takes it off on the way back. Words are joined by blanks.

#include <string_view>

namespace bv::kinds {

[[nodiscard]] bool is_value_rule(std::string_view value);
/// The sum of the words.
[[nodiscard]] double added_on_import(std::string_view value);

}  // namespace bv::kinds
