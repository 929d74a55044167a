#include "properties/claims/built_modules.hpp"

namespace bv::claims {
namespace {

oracle::Built::Sides sides_of(const foreign::ListedParameter& listed, std::string_view hf_name,
                              const Shape& hf) {
  using Sides = oracle::Built::Sides;
  if (listed.shape && listed.shape->size() < hf.size()) {
    Shape squeezed = hf;
    std::erase(squeezed, 1);
    return squeezed == *listed.shape ? Sides::Squeezed : Sides::Same;
  }
  if (!listed.shape || listed.shape->size() != 2 || hf.size() != 2) {
    return Sides::Same;
  }
  const Shape& made = *listed.shape;
  if (made[0] == made[1]) {  // HF keeps the weight of a linear layer as Megatron does
    return made == hf && !hf_name.ends_with(".weight") ? Sides::Unclear : Sides::Same;
  }
  return made[0] == hf[1] && made[1] == hf[0] ? Sides::Swapped : Sides::Same;
}

}  // namespace

BuiltModules::BuiltModules(const Subject& subject) {
  if (subject.under_test == nullptr || !subject.under_test->rules.parameters) {
    return;
  }
  for (const foreign::ListedParameter& parameter : *subject.under_test->rules.parameters) {
    listed_.emplace(parameter.name, &parameter);
  }
}

oracle::Built BuiltModules::of(std::string_view parameter, std::string_view hf_name,
                               const Shape& hf) const {
  const auto found = listed_.find(parameter);
  if (found == listed_.end()) {
    return {};
  }
  const foreign::ListedParameter& listed = *found->second;
  // Megatron-Core and TransformerEngine name their own linear layers so.
  const bool own = listed.module.empty() || listed.module.starts_with("TE") ||
                   listed.module.find("Parallel") != std::string::npos;
  return {listed.parallelism, !own && listed.parallelism == "replicated",
          sides_of(listed, hf_name, hf),
          listed.shape && !listed.shape->empty() ? listed.shape->front() : 0,
          is_gated(parameter, listed)};
}

/// By the columns of the linear_fc2 behind it.
std::optional<bool> BuiltModules::is_gated(std::string_view parameter,
                                           const foreign::ListedParameter& fc1) const {
  constexpr std::string_view kFirst = "linear_fc1.";
  const std::size_t at = parameter.rfind(kFirst);
  if (at == std::string_view::npos || !fc1.shape || fc1.shape->empty()) {
    return std::nullopt;
  }
  const auto fc2 = listed_.find(std::string(parameter.substr(0, at)) + "linear_fc2.weight");
  if (fc2 == listed_.end() || !fc2->second->shape || fc2->second->shape->size() != 2) {
    return std::nullopt;
  }
  const std::int64_t rows = fc1.shape->front();
  const std::int64_t columns = fc2->second->shape->back();
  return rows == columns       ? std::optional(false)
         : rows == 2 * columns ? std::optional(true)
                               : std::nullopt;
}

}  // namespace bv::claims
