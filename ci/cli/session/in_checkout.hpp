#pragma once
// A run with its files named as a forge names them: below the root of the checkout.

#include <filesystem>
#include <optional>

#include "core/verdict/verdict.hpp"
#include "reports/formats.hpp"

namespace bv::cli {

/// The root is the nearest folder above `folder` that has .git, else `folder` itself. Sources of
/// rules are recorded as they stand in a package ("megatron/bridge/..."): they are looked for in
/// `folder`, in its src, in those of the root, and anywhere below the root, where one file alone
/// ends like this; folders of installed packages and hidden ones are not looked in. What is not
/// found, and everything where `folder` is empty, stays as it is recorded.
class InCheckout {
 public:
  InCheckout(const Run& run, const std::filesystem::path& folder) : run_(run), folder_(folder) {}

  /// What a report of this form is made of. It lives as long as this object.
  [[nodiscard]] const Run& for_form(const reports::Format& format) const;

 private:
  [[nodiscard]] Run& own() const;

  const Run& run_;
  const std::filesystem::path& folder_;
  mutable bool looked_ = false;       // at the files, when a form first asks for it
  mutable std::optional<Run> named_;  // a copy, where a place is named otherwise
};

}  // namespace bv::cli
