#pragma once
// What a certificate speaks of: the weights and the config of one model, as fingerprints.

#include <filesystem>
#include <string>

#include "core/base/progress.hpp"
#include "core/io/checkpoint.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// Adds the facts kContentsFact and kConfigFact (core/verdict/certificate.hpp). Errors: Stopped;
/// those of reading.
[[nodiscard]] Status add_contents(const io::Checkpoint& checkpoint,
                                  const std::filesystem::path& config, int jobs,
                                  ProgressSink* progress, Run& run);

/// Whether a model is the one that a run speaks of: headers, every byte, config.json. Errors:
/// ContentsChanged saying what differs.
[[nodiscard]] Status check_contents(const Run& run, const io::Checkpoint& checkpoint,
                                    const std::filesystem::path& config, int jobs,
                                    const std::string& shown);

}  // namespace bv::cli
