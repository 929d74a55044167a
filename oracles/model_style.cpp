#include "oracles/model_style.hpp"

#include <algorithm>
#include <array>

namespace bv::oracle {
namespace {

/// Models that compute as another does, under a name of their own.
struct OtherName {
  std::string_view model_type;
  std::string_view same_as;
};
constexpr std::array kOtherNames = {OtherName{"kimi_k2", "deepseek_v3"}};

std::array<std::span<const ModelStyle>, 5> tables() {
  return {dense_styles(), expert_styles(), wrapper_styles(), classless_styles(),
          styles_without_form()};
}

const ModelStyle* row(std::string_view model_type) {
  for (const std::span<const ModelStyle> table : tables()) {
    const auto found = std::ranges::find(table, model_type, &ModelStyle::model_type);
    if (found != table.end()) {
      return &*found;
    }
  }
  return nullptr;
}

}  // namespace

const ModelStyle* style_of(std::string_view model_type) {
  for (const OtherName& other : kOtherNames) {
    if (other.model_type == model_type) {
      return row(other.same_as);
    }
  }
  const ModelStyle* own = row(model_type);
  return own != nullptr ? own : row(std::string(model_type) + "_text");
}

const ModelStyle* style_of(std::string_view model_type, std::string_view like) {
  const ModelStyle* own = style_of(model_type);
  return own != nullptr || like.empty() ? own : style_of(like);
}

std::vector<std::string> known_model_types() {
  std::vector<std::string> out;
  for (const std::span<const ModelStyle> table : tables()) {
    for (const ModelStyle& style : table) {
      if (style.form) out.emplace_back(style.model_type);
    }
  }
  return out;
}

}  // namespace bv::oracle
