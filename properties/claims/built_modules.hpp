#pragma once
// The modules of the model that was built, by parameter: model.parameters of a rules file.

#include <map>
#include <optional>
#include <string_view>

#include "properties/claims/subject.hpp"

namespace bv::claims {

class BuiltModules {
 public:
  /// The subject must live.
  explicit BuiltModules(const Subject& subject);

  /// What the oracle is told of one parameter; nothing where no list has it. `hf_name`, `hf`: the
  /// first tensor that it is made of.
  [[nodiscard]] oracle::Built of(std::string_view parameter, std::string_view hf_name,
                                 const Shape& hf) const;

 private:
  [[nodiscard]] std::optional<bool> is_gated(std::string_view parameter,
                                             const foreign::ListedParameter& fc1) const;

  std::map<std::string_view, const foreign::ListedParameter*> listed_;
};

}  // namespace bv::claims
