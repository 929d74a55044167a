#pragma once
// What a verb of lora wrote, and the command that judges it or goes on with it.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// The options of a printed command that are not those of the run.
using NextOptions = std::vector<std::pair<std::string, std::string>>;

/// Which given options go along: all that the verb can use, or none about ranks, where the files
/// say them.
enum class KeptRanks { Yes, No };

/// `next` of a run that passed and wrote something: "lora VERB" with `first`, and with what was
/// given and the verb can use. Nothing for a run that did not pass.
void add_next_of_lora(const Options& options, std::string_view verb, const NextOptions& first,
                      KeptRanks ranks, std::string_view note, Run& run);

}  // namespace bv::cli
