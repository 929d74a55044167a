#pragma once
// Prefixes of HF names, read off the names of a checkpoint: what stands before the names that the
// family knows. Nothing here knows a model or a wrapper by name.
//
// A family states its names as transformers writes them: {HF} = "model.language_model.", {V} =
// "model.visual.", and names without a prefix (lm_head.weight, mtp.*). A checkpoint of a wrapped or
// a bare model has other text there: "module.model.language_model.", "language_model.", "". It is
// accepted when all names have moved together; names that have not are one fault for each place.

#include <map>
#include <string>
#include <vector>

#include "core/model/model.hpp"

namespace bv::model {

struct FoundPrefixes {
  /// Text for each prefix of the family, and for "": what stands before names without one.
  std::map<std::string, std::string, std::less<>> prefixes;
  std::vector<Detected> detected;  // "prefix_HF", and "prefix" for "": what stands there, and why
  std::vector<NameFault> faults;   // PrefixDiffers, DuplicateClaim: one for each wrong place
  /// Names that the faults speak of: wanted name -> the name that is there in its stead.
  std::map<std::string, std::string, std::less<>> stands_as;
  std::vector<std::string> explained;  // further names of the faults
};

/// `headers` may be empty: then the prefixes are the family's own.
[[nodiscard]] FoundPrefixes find_prefixes(const family::Family& family, const Headers& headers);

}  // namespace bv::model
