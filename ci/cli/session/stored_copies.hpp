#pragma once
// Copies that one of two HF models stores and the other leaves out: a tied output layer.

#include <filesystem>
#include <string>
#include <vector>

#include "core/compare/diff.hpp"
#include "core/family/families.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::cli {

struct ModelSide {
  const io::Checkpoint* checkpoint = nullptr;
  std::filesystem::path folder;  // where config.json is, or would be
};

/// Names of `a` against those of `b`; a copy that the family lets a model leave out, and that one
/// of the two leaves out, is compared with what it repeats, with a note. Both configs must tie the
/// output layer, or neither.
[[nodiscard]] compare::Comparison compare_models(const ModelSide& a, const ModelSide& b,
                                                 const std::vector<family::FamilyPtr>& families,
                                                 std::vector<std::string>& notes);

}  // namespace bv::cli
