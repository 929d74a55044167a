#pragma once
// Where an HF name stands in a model: the rule that would read it, its layer and its expert,
// whether the config has such a layer or not.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/family/family.hpp"
#include "core/model/model.hpp"

namespace bv::model {

struct NameSpot {
  const family::Section* section = nullptr;
  const family::Rule* rule = nullptr;  // nullptr for a stored copy of another tensor
  std::int64_t index = -1;  // repetition; beyond those of the config, or negative, when the name is
  bool numbered = false;    // the name holds the number of its repetition
  std::int64_t expert = -1;  // -1 without {e}
};

class NameSpots {
 public:
  /// All names of the family under the prefixes and sizes of the model. The model must outlive it.
  explicit NameSpots(const Model& model);

  /// Spots of this very name with any layer and expert, in the order of the family.
  [[nodiscard]] std::vector<NameSpot> find(std::string_view hf) const;
  /// How much of the name is known: "model.layers.4." of "model.layers.4.foo.weight" when layers
  /// have nothing named foo. "" when its first part is unknown.
  [[nodiscard]] std::string_view known_start(std::string_view hf) const;

 private:
  enum class Number { Index, Expert, Constant };
  struct PatternNumber {
    Number kind = Number::Constant;
    std::int64_t offset = 0;  // the value of a constant
    std::int64_t step = 1;    // from one repetition to the next
  };
  struct Pattern {
    const family::Section* section = nullptr;
    const family::Rule* rule = nullptr;
    std::vector<PatternNumber> numbers;
  };
  void learn(const family::Section& section, const family::Rule* rule, const std::string& text);

  const Model& model_;
  std::unordered_map<std::string, std::vector<Pattern>> patterns_;  // numbers as '*'
  std::unordered_set<std::string> starts_;                          // "model.layers.*."
};

}  // namespace bv::model
