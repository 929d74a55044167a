#pragma once
// Options that were given and change nothing on this model: each is said once, and lines that are
// to be copied leave it out.

#include <string>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "core/model/model.hpp"

namespace bv::cli {

struct IdleOption {
  std::string name;  // without dashes
  std::string note;  // "--drop-mtp changes nothing: the model has no MTP layer"
};

/// Those of the command line; settings files and the environment are for many models.
[[nodiscard]] std::vector<IdleOption> idle_options(const Options& options,
                                                   const model::Model& model);
/// The options as lines of replay and next are made from them.
[[nodiscard]] Options without_idle(const Options& options, const model::Model& model);

}  // namespace bv::cli
