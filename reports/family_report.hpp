#pragma once
// Families and their rules, as `models` shows them.

#include <string>
#include <utility>
#include <vector>

#include "reports/style.hpp"

namespace bv::reports {

struct FamilyRule {
  std::string id, kind, megatron;
  std::vector<std::pair<std::string, std::string>> hf;  // source of the kind, HF name
  std::vector<std::string> when;
};

struct FamilyReport {
  std::string name, doc;
  std::vector<std::string> architectures, model_types;
  std::vector<FamilyRule> rules;
};

/// One entry a family.
[[nodiscard]] std::string families_text(const std::vector<FamilyReport>& families,
                                        const TextStyle& style);
[[nodiscard]] std::string families_json(const std::vector<FamilyReport>& families);
/// One family with every rule.
[[nodiscard]] std::string family_text(const FamilyReport& family, const TextStyle& style);
[[nodiscard]] std::string family_json(const FamilyReport& family);

}  // namespace bv::reports
