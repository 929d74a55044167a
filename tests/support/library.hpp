#pragma once
// The families and kinds that the command has built in, loaded once a process.

#include <vector>

#include "core/family/family.hpp"
#include "core/kinds/catalogue.hpp"

namespace bv::support {

inline const std::vector<family::FamilyPtr>& families() {
  static const std::vector<family::FamilyPtr> loaded = family::builtin_families().value();
  return loaded;
}

inline const kinds::Catalogue& catalogue() {
  static const kinds::Catalogue loaded = kinds::load_catalogue().value();
  return loaded;
}

}  // namespace bv::support
